//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, draining. What is asked over them is no matter here.

#[cfg(test)]
mod cost;
mod direct;
mod early;
mod front;
mod listener;
mod patience;
mod reload;
mod tls;

pub(crate) use listener::Listener;
pub(crate) use reload::Reloads;
