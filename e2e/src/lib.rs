//! stagecraft-e2e
