//! A port for ranks to meet at.

use std::net::TcpListener;

/// A port that nobody listens at. It is below those that the kernel gives out by itself
/// (`net.ipv4.ip_local_port_range`), so that no connection has it by the time it is used.
pub(crate) fn free() -> String {
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    // Each call begins elsewhere.
    static CALLS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let found = (first + call * 100..first + call * 100 + 100).find(free);
    found.expect("a free port").to_string()
}
