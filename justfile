# The recipes call what CI calls. `just` lists them.

[private]
default:
    @just --list --unsorted

# A gate to play with
demo:
    cargo run --release -- demo

# The gate with ./sluicegate.json
serve *ARGS:
    cargo run --release -- serve {{ARGS}}

# Everything that CI runs, or the steps named
ci *STEPS:
    .ci/run {{STEPS}}

# What to run before a commit: minutes, once dependencies are built
check: (ci "docs" "format" "bans" "lint" "apidoc" "test")

# What the documents say, and the commands and configs that they show
documents: (ci "docs" "release" "commands")

# Format the code
format:
    cargo fmt

# Unit, property and socket tests
test *ARGS:
    cargo test {{ARGS}}

# Real MCP clients and servers through the gate
interop: (ci "release" "interop")

# Token rotation under load
rotation: (ci "rotation")

# Cost of the token check and the rewriter
bench:
    cargo bench --bench token_check --bench sse_endpoint

# Whether the time of a token check says anything about the token
dudect *FILTER:
    cargo bench --bench dudect_token -- {{FILTER}}

# The gate beside nginx and HAProxy, under the same load
compare *ARGS:
    loadtest/compare.sh {{ARGS}}
