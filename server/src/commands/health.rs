//! `longshore health`: asks the server that runs with the same settings whether it is ready. For images that hold nothing
//! else that could ask.

use crate::cli::SettingsSources;
use crate::http::any_certificate;
use anyhow::{Context as _, Result, bail};
use longshore_config::Settings;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long the answer may take. What runs the check waits longer, so that it is told why.
const PATIENCE: Duration = Duration::from_secs(4);
/// An answer is a line or two.
const LONGEST_ANSWER: u64 = 16 * 1024;

pub(super) async fn run(sources: &SettingsSources) -> Result<ExitCode> {
    let settings = super::load(sources)?.settings;
    let (address, has_tls) = door(&settings)?;
    let answer = timeout(PATIENCE, ask(address, has_tls)).await;
    let answer = answer.with_context(|| format!("{address} has not answered after {PATIENCE:?}"))??;
    let said = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200 ") {
        println!("{said}");
        Ok(ExitCode::SUCCESS)
    } else {
        bail!("{address} is not ready: {}", if said.is_empty() { "it does not speak HTTP" } else { said })
    }
}

/// Where to ask, and whether TLS is spoken there: the metrics' own listener, if there is one, never does.
fn door(settings: &Settings) -> Result<(SocketAddr, bool)> {
    let metrics = settings.metrics.address.filter(|_| settings.metrics.enabled);
    let (mut address, has_tls) = match metrics {
        Some(address) => (address, false),
        None => (settings.http.address, settings.http.tls.is_some()),
    };
    if address.port() == 0 {
        bail!("the server has chosen its port itself, as {address} lets it: nobody can tell which one");
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok((address, has_tls))
}

async fn ask(address: SocketAddr, has_tls: bool) -> Result<String> {
    let refused = || format!("{address} cannot be reached: does the server run, with these settings?");
    let stream = TcpStream::connect(address).await.with_context(refused)?;
    if !has_tls {
        return exchange(stream, address).await;
    }
    let connector = TlsConnector::from(any_certificate());
    let stream = connector.connect(address.ip().into(), stream).await;
    exchange(stream.with_context(|| format!("{address} does not speak TLS"))?, address).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) -> Result<String> {
    let request =
        format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nuser-agent: longshore-health\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door_of(settings: &[(&str, &str)]) -> Result<(String, bool)> {
        let flags = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let sources = SettingsSources { config: None, set: flags };
        let (address, has_tls) = door(&crate::commands::load(&sources)?.settings)?;
        Ok((address.to_string(), has_tls))
    }

    #[test]
    fn it_asks_where_the_server_listens() {
        let plain = |address: &str| (address.to_owned(), false);
        assert_eq!(door_of(&[]).unwrap(), plain("127.0.0.1:5000"));
        let everywhere = [("http.address", "0.0.0.0:5001"), ("auth.open", "true")];
        assert_eq!(door_of(&everywhere).unwrap(), plain("127.0.0.1:5001"));
        let everywhere = [("http.address", "[::]:5001"), ("auth.open", "true")];
        assert_eq!(door_of(&everywhere).unwrap(), plain("[::1]:5001"));
        let tls = [("http.tls.certificate", "a"), ("http.tls.key", "b")];
        assert_eq!(door_of(&tls).unwrap(), ("127.0.0.1:5000".to_owned(), true));
        let metrics = [tls[0], tls[1], ("metrics.address", "0.0.0.0:9090")];
        assert_eq!(door_of(&metrics).unwrap(), plain("127.0.0.1:9090"));
        let without = [("metrics.enabled", "false"), ("metrics.address", "0.0.0.0:9090")];
        assert_eq!(door_of(&without).unwrap(), plain("127.0.0.1:5000"));
        assert!(door_of(&[("http.address", "127.0.0.1:0")]).is_err());
    }
}
