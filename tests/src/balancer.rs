//! A real balancer in front of replicas, nginx, as it stands in front of them in production: each request goes to the
//! next replica, whichever one the client's requests before went to.
//!
//! A replica that takes no connection is passed over, and none is remembered as dead: it gets its share again as soon as
//! it is back. Of a request that a replica has begun to answer, or that may not be done twice (POST, PATCH, and whatever
//! has sent some of its body), the client is told that it failed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::programs::path_of;
use crate::scratch::Scratch;
use crate::service::{Service, free_port};

/// A running nginx on 127.0.0.1. It stays when replicas die and come back on their addresses.
#[derive(Debug)]
pub struct Balancer {
    // Before the directory: the balancer ends before its files go.
    _service: Service,
    scratch: Scratch,
    address: String,
}

impl Balancer {
    /// Starts a balancer in front of servers (`host:port` each).
    #[must_use]
    pub fn in_front_of<'a>(servers: impl IntoIterator<Item = &'a str>) -> Self {
        let servers: Vec<_> = servers.into_iter().collect();
        let scratch = Scratch::new("balancer");
        // The port is free when it is looked up, and a stranger may take it before nginx does: then the next is taken.
        loop {
            let address = format!("127.0.0.1:{}", free_port());
            let configuration = scratch.join("nginx.conf");
            fs::write(&configuration, configuration_of(&address, &servers))
                .expect("a scratch directory can be written");
            if let Some(service) = launch(&scratch, &configuration) {
                return Self { _service: service, scratch, address };
            }
        }
    }

    /// Where clients find it: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many requests that have ended were passed to a server (`host:port`), whether it took them or not.
    #[must_use]
    pub fn passed_to(&self, server: &str) -> usize {
        let lines = fs::read_to_string(self.scratch.join("passed")).unwrap_or_default();
        lines.split([' ', ',', '\n']).filter(|passed_to| *passed_to == server).count()
    }
}

/// Nothing is kept back or cut off on the way: layers are large, and slow to come.
fn configuration_of(address: &str, servers: &[&str]) -> String {
    let servers: String = servers.iter().map(|server| format!("server {server} max_fails=0; ")).collect();
    format!(
        "worker_processes 1;
daemon off;
pid pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    log_format passed '$upstream_addr';
    access_log passed passed;
    upstream replicas {{ {servers}keepalive 16; }}
    server {{
        listen {address};
        client_max_body_size 0;
        large_client_header_buffers 4 64k;
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection \"\";
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream error timeout;
            proxy_read_timeout 300s;
            proxy_send_timeout 300s;
        }}
    }}
}}
"
    )
}

/// None where a stranger has taken the port.
fn launch(scratch: &Scratch, configuration: &Path) -> Option<Service> {
    let (log, pid) = (scratch.join("log"), scratch.join("pid"));
    drop(fs::remove_file(&log));
    // Started by root, its worker runs as a user who has to reach these.
    for directory in [scratch.path(), &scratch.directory("temporary")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("the directory is this test's own");
    }
    let mut command = Command::new(path_of("nginx"));
    command.arg("-p").arg(scratch.path()).arg("-c").arg(configuration).args(["-e", "stderr"]);
    let mut service = Service::start("nginx", &mut command, &log, "TERM");
    let is_ready = service.wait_until("ready", || {
        if fs::read_to_string(&log).unwrap_or_default().contains("Address already in use") {
            return Some(false);
        }
        // Written when its socket listens.
        fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')).then_some(true)
    });
    is_ready.then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    /// Answers every request on every connection with its name.
    fn named(name: char) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || answer(&stream.unwrap(), name));
            }
        });
        address
    }

    fn answer(mut stream: &TcpStream, name: char) {
        let mut head = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{name}").unwrap();
                head.clear();
            }
        }
    }

    fn ask(stream: &mut TcpStream) -> char {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: registry\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        stream.read_exact(&mut byte).unwrap();
        char::from(byte[0])
    }

    #[test]
    fn each_request_goes_to_the_next_server_even_on_one_connection() {
        let (a, b) = (named('a'), named('b'));
        let balancer = Balancer::in_front_of([a.as_str(), &b]);
        let mut connection = TcpStream::connect(balancer.address()).unwrap();
        let names: String = (0..6).map(|_| ask(&mut connection)).collect();
        assert!(["ababab", "bababa"].contains(&names.as_str()), "{names}");
    }

    #[test]
    fn a_server_that_is_gone_is_passed_over() {
        let (a, gone) = (named('a'), format!("127.0.0.1:{}", free_port()));
        let balancer = Balancer::in_front_of([a.as_str(), &gone]);
        let mut connection = TcpStream::connect(balancer.address()).unwrap();
        let names: String = (0..6).map(|_| ask(&mut connection)).collect();
        assert_eq!(names, "aaaaaa");
        drop(connection);
    }
}
