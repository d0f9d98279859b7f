//! stagecraft-operator
