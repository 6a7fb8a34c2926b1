//! The development backend: what an agent needs of the real one, on a laptop.
//!
//! It serves targets, accepts registrations and reports, hands out registry tokens, and
//! refuses what the real one refuses, with the same status (remote-api 1.3, 2.6, 3.3, 4.3).
//! It is held against recorded exchanges of the real one (`tests/recorded`). Control routes,
//! for tests and for curious users:
//!
//! | route | does |
//! |---|---|
//! | `PUT /_control/target` | sets the target document; its keys are the devices |
//! | `GET /_control/target` | shows it |
//! | `GET /_control/reports` | all accepted reports, oldest first |
//! | `DELETE /_control/reports` | forgets them |
//! | `GET /_control/requests` | how often each route was asked |
//! | `GET /_control/log` | every request with its time and its answer's status |
//! | `DELETE /_control/log` | forgets them |
//! | `PUT /_control/devices/{uuid}` | `{"state": "normal"\|"frozen"\|"deleted", "key": "..."}` |
//! | `DELETE /_control/releases/{uuid}` | the release is not known any more |
//! | `PUT /_control/fleets` | `{"key": 1}`: provisioning keys and their fleets, see [`provisioning`] |
//! | `PUT /_control/fail` | faults of the next answers to devices: see [`fault::Fault`] |
//!
//! Usage: `cargo run --example backend -- [--listen 127.0.0.1:8090]`

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod control;
mod fault;
mod provisioning;
mod register;
mod report;
mod state;
mod target;
mod token;
mod wire;

use fault::Fault;
use state::State;
use wire::{Answer, Call};

/// A connection's thread needs little.
const STACK_BYTES: usize = 256 * 1024;

/// Answers one request, and says what is wrong with the answer.
fn answer(state: &Mutex<State>, call: &Call) -> (Answer, Fault) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let state = &mut *state;
    let path = call.path.trim_end_matches('/');
    let body = match &call.body {
        Ok(body) => body.as_slice(),
        Err(status) => {
            return (
                Answer::html(*status, "the body cannot be read"),
                Fault::default(),
            );
        }
    };
    if let Some(route) = path.strip_prefix("/_control/") {
        return (
            control::answer(state, &call.method, route, body),
            Fault::default(),
        );
    }
    let lower = path.to_ascii_lowercase();
    let device = lower
        .strip_prefix("/device/v3/")
        .and_then(|rest| rest.strip_suffix("/state"));
    let (name, answer) = match (call.method.as_str(), lower.as_str(), device) {
        ("PATCH", "/device/v3/state", _) => ("report", report::answer(state, call, body)),
        ("GET" | "HEAD", _, Some(uuid)) => ("poll", target::answer(state, uuid, call)),
        ("GET", "/auth/v1/token", _) => ("token", token::answer(state, call)),
        ("GET", "/ping", _) => ("", Answer::text(200, "OK")),
        ("GET" | "HEAD", "/connectivity-check", _) => ("", Answer::empty(204)),
        _ => register::answer(state, call, body).unwrap_or_else(|| ("", Answer::empty(404))),
    };
    let fault = match name {
        "" => Fault::default(),
        _ => fault::next(&mut state.faults, name),
    };
    let status = fault.status.unwrap_or(answer.status);
    state.log(format!("{} {path}", call.method), status);
    (answer, fault)
}

fn main() -> ExitCode {
    let listener = match listen() {
        Ok(listener) => listener,
        Err(why) => {
            eprintln!("backend: {why}");
            return ExitCode::from(2);
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("backend on http://{address}");
        let _ = std::io::stdout().flush();
    }
    let state = Arc::new(Mutex::new(State::new()));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of file descriptors: others end soon.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let state = state.clone();
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let _ = builder.spawn(move || wire::serve(stream, |call| answer(&state, call)));
    }
    ExitCode::SUCCESS
}

fn listen() -> Result<TcpListener, String> {
    let mut address = "127.0.0.1:8090".to_owned();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--listen" => address = words.next().ok_or("--listen needs an address")?,
            _ => {
                return Err(format!(
                    "unknown argument '{word}'; known is --listen IP:PORT"
                ));
            }
        }
    }
    let address: SocketAddr = address
        .parse()
        .map_err(|_| format!("'{address}' is no IP address with a port"))?;
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}
