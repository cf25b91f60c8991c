//! The binary `hansa-linkproxy` as a user starts it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn it_prints_where_it_listens_delays_and_dies_with_its_stop() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_hansa-linkproxy"))
        .args(["--listen", "127.0.0.1:0", "--delay-ms", "40"])
        .args(["--back-delay-ms", "0", "--target"])
        .arg(target.local_addr().unwrap().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(proxy.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let listen = line.split(" -> ").next().unwrap();
    let mut client = TcpStream::connect(listen).unwrap();
    let (mut accepted, _) = target.accept().unwrap();
    let start = Instant::now();
    client.write_all(b"x").unwrap();
    accepted.read_exact(&mut [0]).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(40));
    let stopped = Command::new("kill")
        .args(["-TERM", &proxy.id().to_string()])
        .status()
        .unwrap();
    assert!(stopped.success());
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
    let mut summary = String::new();
    proxy.stderr.unwrap().read_to_string(&mut summary).unwrap();
    assert_eq!(
        summary,
        "1 connections, 1 bytes forward, 0 bytes backward\n"
    );
}

#[test]
fn a_wrong_argument_is_named_and_exits_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_hansa-linkproxy"))
        .args(["--listen", "nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--listen \"nowhere\""), "{message}");
}
