// Command folding is an MCP server on standard input and output, on github.com/mark3labs/mcp-go: its messages are read by
// encoding/json, which takes keys in any letter case and of two that are one the last.
//
// Its one tool, `echo`, reports progress with its `nonce` as the message, waits for `delay` seconds, and returns its nonce
// with the id of the process; a call that is cancelled meanwhile returns "cancelled".
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

func echo(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	nonce := request.GetString("nonce", "")
	if meta := request.Params.Meta; meta != nil && meta.ProgressToken != nil {
		progress := map[string]any{"progressToken": meta.ProgressToken, "progress": 1, "message": nonce}
		// One that does not fit in the queue is lost, as progress may be.
		_ = server.ServerFromContext(ctx).SendNotificationToClient(ctx, "notifications/progress", progress)
	}
	delay := time.Duration(request.GetFloat("delay", 0) * float64(time.Second))
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return mcp.NewToolResultText("cancelled"), nil
	}
	text, err := json.Marshal(map[string]any{"nonce": nonce, "pid": os.Getpid()})
	if err != nil {
		return nil, err
	}
	return mcp.NewToolResultText(string(text)), nil
}

func main() {
	folding := server.NewMCPServer("folding", "1.0.0", server.WithToolCapabilities(true))
	tool := mcp.NewTool("echo", mcp.WithString("nonce"), mcp.WithNumber("delay"))
	folding.AddTool(tool, echo)
	options := []server.StdioOption{server.WithWorkerPoolSize(64), server.WithQueueSize(4096)}
	if err := server.ServeStdio(folding, options...); err != nil {
		log.Fatal(err)
	}
}
