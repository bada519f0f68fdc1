//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, draining. What is asked over them is no matter here.

mod early;
mod listener;
mod patience;
mod reload;
mod router;
mod tls;

pub(crate) use listener::Listener;
pub(crate) use reload::Reloads;
