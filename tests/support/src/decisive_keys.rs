//! The keys of a message that the gateway decides on or renames, by where they stand. A key that is added to `mcp::keys`
//! belongs here, too: each spelling of it is tried at the gateway, and each text with it is read by other languages.

pub const TOP: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

pub const PARAMS: &[&str] = &[
    "_meta",
    "name",
    "arguments",
    "uri",
    "taskId",
    "progressToken",
    "requestId",
    "cursor",
    "level",
    "ref",
    "notifications",
    "protocolVersion",
    "capabilities",
    "clientInfo",
];

pub const META: &[&str] = &[
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/related-task",
];

pub const REFERENCE: &[&str] = &["type", "name", "uri"];

pub const FILTER: &[&str] =
    &["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"];
