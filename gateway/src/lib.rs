//! stagecraft-gateway
