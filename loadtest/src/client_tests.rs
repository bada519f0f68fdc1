//! Tests of the client against a scripted server on a loopback socket.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::body::{Body, BodyRange, Segment};

const GET: Request<'_> = Request { method: Method::Get, path: "/v2/a", headers: "", expected_status: 200 };

/// Takes one connection for each script; on each, answers every request with the next response of that script, then
/// closes. Returns what it was sent.
fn scripted(scripts: Vec<Vec<&'static str>>) -> (Target, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap()), Some("u:p")).unwrap();
    let server = thread::spawn(move || {
        let mut requests = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().unwrap();
            for response in script {
                requests.push(read_request(&mut stream));
                stream.write_all(response.as_bytes()).unwrap();
            }
        }
        requests
    });
    (target, server)
}

/// Reads a request to its very end: a connection that is closed before is reset, and the client may see that first.
fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the client sends a whole head");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("a head is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).expect("the client sends a whole body");
    head + &String::from_utf8_lossy(&body)
}

fn connection(target: &Target) -> Connection<'_> {
    Connection::new(target, Instant::now() + Duration::from_secs(60))
}

#[test]
fn one_connection_serves_many_requests() {
    let (target, server) = scripted(vec![vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    ]]);
    let mut connection = connection(&target);
    let mut body = Vec::new();
    connection.read(&GET, &mut |piece| body.extend_from_slice(piece)).unwrap();
    assert_eq!(body, b"abc");
    assert_eq!(connection.ask(&Request { method: Method::Head, ..GET }).unwrap().length, 9);
    assert_eq!(connection.ask(&Request { expected_status: 204, ..GET }).unwrap().length, 0);
    let post = Request { method: Method::Post, expected_status: 202, headers: "X-Y: z\r\n", ..GET };
    assert_eq!(connection.send(&post, &mut ReadyBytes(b"body")).unwrap().location.as_deref(), Some("/x"));
    assert_eq!(connection.connects(), 1);

    let requests = server.join().unwrap();
    let address = target.authority();
    assert_eq!(requests[0], format!("GET /v2/a HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic dTpw\r\n\r\n"));
    assert!(requests[3].ends_with("Content-Length: 4\r\nX-Y: z\r\n\r\nbody"), "{}", requests[3]);
}

#[test]
fn it_connects_anew_after_the_server_said_close() {
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (target, server) = scripted(vec![vec![closing], vec![closing]]);
    let mut connection = connection(&target);
    connection.ask(&GET).unwrap();
    connection.ask(&GET).unwrap();
    assert_eq!(connection.connects(), 2);
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn another_status_is_an_error_that_shows_what_the_server_said() {
    let (target, server) = scripted(vec![vec![
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    ]]);
    let mut connection = connection(&target);
    let error = connection.ask(&GET).unwrap_err().to_string();
    assert!(error.contains("status 401 where 200") && error.contains("--user") && error.contains("who?"), "{error}");
    assert!(!connection.exists("/v2/b", "").unwrap());
    assert!(connection.exists("/v2/b", "").is_err());
    assert_eq!(connection.connects(), 1, "a refusal does not break the connection");
    server.join().unwrap();
}

#[test]
fn a_body_cut_short_is_an_error_and_the_next_request_connects_anew() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (target, server) = scripted(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"], vec![whole]]);
    let mut connection = connection(&target);
    let error = format!("{:#}", connection.ask(&GET).unwrap_err());
    assert!(error.contains("2 of 5 bytes of the body are missing"), "{error}");
    assert_eq!(connection.ask(&GET).unwrap().length, 2);
    server.join().unwrap();
}

#[test]
fn large_bodies_go_out_whole() {
    let (target, server) = scripted(vec![vec!["HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"]]);
    let mut connection = connection(&target);
    let body = Body::fixed(2_500_000);
    let mut segment = Segment::new();
    let put = Request { method: Method::Put, expected_status: 201, ..GET };
    connection.send(&put, &mut BodyRange::whole(&mut segment, body)).unwrap();
    let requests = server.join().unwrap();
    assert!(requests[0].contains("Content-Length: 2500000\r\n"));
}

#[test]
fn nothing_is_asked_after_the_deadline() {
    let (target, server) = scripted(vec![vec![]]);
    let mut late = Connection::new(&target, Instant::now());
    let error = format!("{:#}", late.ask(&GET).unwrap_err());
    assert!(error.contains("longer than its time limit"), "{error}");
    server.join().unwrap();
}
