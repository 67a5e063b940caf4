//! Stage 1, on the host.

pub mod create;
pub mod damaged;
pub mod delete;
pub mod exec;
pub mod foreground;
pub mod notify_message;
pub mod notify_socket;
pub mod others;
pub mod relay;
pub mod sealed_exe;
pub mod serve;
pub mod spawn;
pub mod start;
pub mod stream;
pub mod terminal_guard;
