// Command reader reads messages as a server in Go does that uses encoding/json, in whichever letter case the keys are; see
// reader.py for what it takes and says.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
)

type message struct {
	JSONRPC json.RawMessage `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  json.RawMessage `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

type params struct {
	Meta            json.RawMessage `json:"_meta"`
	Name            json.RawMessage `json:"name"`
	Arguments       json.RawMessage `json:"arguments"`
	URI             json.RawMessage `json:"uri"`
	TaskID          json.RawMessage `json:"taskId"`
	ProgressToken   json.RawMessage `json:"progressToken"`
	RequestID       json.RawMessage `json:"requestId"`
	Cursor          json.RawMessage `json:"cursor"`
	Level           json.RawMessage `json:"level"`
	Ref             json.RawMessage `json:"ref"`
	Notifications   json.RawMessage `json:"notifications"`
	ProtocolVersion json.RawMessage `json:"protocolVersion"`
	Capabilities    json.RawMessage `json:"capabilities"`
	ClientInfo      json.RawMessage `json:"clientInfo"`
}

type meta struct {
	ProgressToken  json.RawMessage `json:"progressToken"`
	Version        json.RawMessage `json:"io.modelcontextprotocol/protocolVersion"`
	Capabilities   json.RawMessage `json:"io.modelcontextprotocol/clientCapabilities"`
	ClientInfo     json.RawMessage `json:"io.modelcontextprotocol/clientInfo"`
	LogLevel       json.RawMessage `json:"io.modelcontextprotocol/logLevel"`
	SubscriptionID json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
	RelatedTask    json.RawMessage `json:"io.modelcontextprotocol/related-task"`
}

type reference struct {
	Type json.RawMessage `json:"type"`
	Name json.RawMessage `json:"name"`
	URI  json.RawMessage `json:"uri"`
}

type filter struct {
	Tools         json.RawMessage `json:"toolsListChanged"`
	Prompts       json.RawMessage `json:"promptsListChanged"`
	Resources     json.RawMessage `json:"resourcesListChanged"`
	Subscriptions json.RawMessage `json:"resourceSubscriptions"`
}

func what(raw json.RawMessage) string {
	switch raw[0] {
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return err.Error()
		}
		return "text " + text
	}
	const most = 1 << 53
	// A server that takes any value gets a float64, and writes that back.
	var float any
	if err := json.Unmarshal(raw, &float); err == nil {
		if number, err := strconv.ParseInt(string(raw), 10, 64); err == nil && number > -most && number < most {
			back, _ := json.Marshal(float)
			if text := strconv.FormatInt(number, 10); text != string(back) && number != 0 {
				return "number " + text + " or " + string(back)
			}
			return fmt.Sprintf("number %d", number)
		}
	}
	return "number"
}

func note(found map[string]string, path string, raw json.RawMessage) {
	if raw != nil {
		found[path] = what(raw)
	}
}

func read(text []byte) any {
	found := map[string]string{}
	if len(text) == 0 || json.Unmarshal(text, &map[string]json.RawMessage{}) != nil {
		return nil
	}
	var m message
	if json.Unmarshal(text, &m) != nil {
		return nil
	}
	for path, raw := range map[string]json.RawMessage{
		"jsonrpc": m.JSONRPC, "id": m.ID, "method": m.Method, "params": m.Params, "result": m.Result, "error": m.Error,
	} {
		note(found, path, raw)
	}
	var p params
	if m.Params == nil || m.Params[0] != '{' || json.Unmarshal(m.Params, &p) != nil {
		return found
	}
	for path, raw := range map[string]json.RawMessage{
		"_meta": p.Meta, "name": p.Name, "arguments": p.Arguments, "uri": p.URI, "taskId": p.TaskID,
		"progressToken": p.ProgressToken, "requestId": p.RequestID, "cursor": p.Cursor, "level": p.Level, "ref": p.Ref,
		"notifications": p.Notifications, "protocolVersion": p.ProtocolVersion, "capabilities": p.Capabilities,
		"clientInfo": p.ClientInfo,
	} {
		note(found, "params."+path, raw)
	}
	var t meta
	if p.Meta != nil && p.Meta[0] == '{' && json.Unmarshal(p.Meta, &t) == nil {
		note(found, "params._meta.progressToken", t.ProgressToken)
		for path, raw := range map[string]json.RawMessage{
			"protocolVersion": t.Version, "clientCapabilities": t.Capabilities, "clientInfo": t.ClientInfo,
			"logLevel": t.LogLevel, "subscriptionId": t.SubscriptionID, "related-task": t.RelatedTask,
		} {
			note(found, "params._meta.io.modelcontextprotocol/"+path, raw)
		}
	}
	var r reference
	if p.Ref != nil && p.Ref[0] == '{' && json.Unmarshal(p.Ref, &r) == nil {
		for path, raw := range map[string]json.RawMessage{"type": r.Type, "name": r.Name, "uri": r.URI} {
			note(found, "params.ref."+path, raw)
		}
	}
	var f filter
	if p.Notifications != nil && p.Notifications[0] == '{' && json.Unmarshal(p.Notifications, &f) == nil {
		for path, raw := range map[string]json.RawMessage{
			"toolsListChanged": f.Tools, "promptsListChanged": f.Prompts, "resourcesListChanged": f.Resources,
			"resourceSubscriptions": f.Subscriptions,
		} {
			note(found, "params.notifications."+path, raw)
		}
	}
	return found
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var length int
		if _, err := fmt.Fscanf(in, "%d\n", &length); err != nil {
			break
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil {
			break
		}
		line, _ := json.Marshal(read(text))
		out.Write(line)
		out.WriteByte('\n')
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
	out.Flush()
}
