//! stagecraft-core
