"""python conversation.py URL http|sse legacy|modern STEPS

Takes the steps (a JSON list, see README.md) with a client that can do all that a server may ask for, and prints
what it saw as one JSON object.
"""

import asyncio
import json
import sys
import warnings
from contextlib import AsyncExitStack
from typing import Any

import mcp_types as types
from connect import transport
from mcp.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning

# What the newest protocol version deprecates is what this is about.
warnings.simplefilter("ignore", MCPDeprecationWarning)

WAIT_SECONDS = 10


class Conversation:
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"texts": [], "logs": [], "sampled": [], "elicited": [], "updated": [], "changed": []}
        self.seen["progress"] = []
        self._news = asyncio.Condition()

    async def note(self, kind: str, what: Any) -> None:
        async with self._news:
            self.seen[kind].append(what)
            self._news.notify_all()

    async def sample(self, _ctx: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        await self.note("sampled", text_of(params.messages[0]))
        content = types.TextContent(type="text", text="sampled by the client")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def elicit(self, _ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        await self.note("elicited", params.message)
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.com", "name": "Ada"})

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        await self.note("logs", params.data)

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            await self.note("updated", str(message.params.uri))
        elif isinstance(message, types.ToolListChangedNotification):
            await self.note("changed", "tools")

    async def take(self, client: Client, step: list[Any], stack: AsyncExitStack) -> None:
        match step:
            case ["list"]:
                self.seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
                self.seen["prompts"] = [prompt.name for prompt in (await client.list_prompts()).prompts]
                self.seen["resources"] = [str(found.uri) for found in (await client.list_resources()).resources]
            case ["call" | "logged" as how, name, arguments]:
                progress: list[float] = []

                async def report(done: float, _total: float | None, _message: str | None) -> None:
                    progress.append(done)

                meta = {"io.modelcontextprotocol/logLevel": "debug"} if how == "logged" else None
                result = await client.call_tool(name, arguments, progress_callback=report, meta=meta)
                self.seen["texts"].append(text_of(result))
                self.seen["progress"].append(progress)
            case ["prompt", name, arguments]:
                self.seen["texts"].append(text_of((await client.get_prompt(name, arguments)).messages[0]))
            case ["read", uri]:
                contents = (await client.read_resource(uri)).contents[0]
                self.seen["texts"].append(getattr(contents, "text", None))
            case ["level", level]:
                await client.set_logging_level(level)
            case ["subscribe", uri]:
                await client.subscribe_resource(uri)
            case ["listen"]:
                await stack.enter_async_context(client.listen(tools_list_changed=True))
            case ["wait", kind]:
                async with self._news, asyncio.timeout(WAIT_SECONDS):
                    await self._news.wait_for(lambda: self.seen[kind])
            case _:
                raise ValueError(f"no such step: {step}")


def text_of(message: Any) -> str | None:
    content = message.content[0] if isinstance(message.content, list) else message.content
    return getattr(content, "text", None)


async def main(url: str, kind: str, era: str, steps: str) -> None:
    conversation = Conversation()
    client = Client(
        transport(url, kind),
        mode="2026-07-28" if era == "modern" else era,
        sampling_callback=conversation.sample,
        elicitation_callback=conversation.elicit,
        logging_callback=conversation.log,
        message_handler=conversation.message,
    )
    async with client, AsyncExitStack() as stack:
        conversation.seen["version"] = client.protocol_version
        for step in json.loads(steps):
            await conversation.take(client, step, stack)
    print(json.dumps(conversation.seen))


asyncio.run(main(*sys.argv[1:]))
