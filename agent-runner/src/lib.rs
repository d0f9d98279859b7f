//! stagecraft-agent-runner
