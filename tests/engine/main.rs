//! A fake engine: enough of the Docker Engine API for an agent's whole main job, held in
//! memory, for tests with more engines or more updates than real ones could bear.
//!
//! It speaks as Docker 20.10 does; `tests/it/fake.rs` holds the same conversation with a
//! real engine and with this one. Nothing runs: a container is a state and a timer.
//!
//! | what it is asked for | what happens |
//! |---|---|
//! | an image whose last name begins with `nothing` | no registry has it |
//! | any other image | two layers are "pulled"; a tag names the same image each time |
//! | a command `sleep N`, `true`, `false`, or `sh -c` with `sleep N` and `exit N` in it | ends after so long with that code, and starts again as the restart policy says |
//! | any other command | runs until it is stopped, which takes no time |
//!
//! Usage: `cargo run --example engine -- (--socket PATH | --sockets DIR --count N)`;
//! more engines are in DIR as `0.sock`, `1.sock` and so on, each with a state of its own.
//! `--latency-ms N`: a call that changes something takes so long.
//! `--fail-every N`: every so manieth of them is answered 500 instead.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_executor::Executor;
use helios::http::server::{Listener, Server};

mod engine;
mod routes;
mod shapes;
mod state;

/// What was typed.
#[derive(Default)]
struct Args {
    sockets: Vec<PathBuf>,
    latency: Duration,
    fail_every: u64,
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("engine: {why}");
            return ExitCode::from(2);
        }
    };
    let executor = Arc::new(Executor::new());
    for socket in &args.sockets {
        let listener = match Listener::bind_unix(socket, 0o600) {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("engine: cannot listen on {}: {error}", socket.display());
                return ExitCode::from(2);
            }
        };
        let root = socket.parent().unwrap_or_else(|| Path::new("/"));
        let engine = engine::Engine::new(executor.clone(), root, args.latency, args.fail_every);
        let server = Server::new(vec![listener], Arc::new(routes::Routes(engine)));
        let serving = server.run(std::future::pending(), Duration::ZERO);
        executor.spawn(serving).detach();
    }
    println!("{} engines", args.sockets.len());
    let _ = std::io::stdout().flush();
    async_io::block_on(executor.run(std::future::pending::<()>()));
    ExitCode::SUCCESS
}

fn args() -> Result<Args, String> {
    let (mut args, mut dir, mut count) = (Args::default(), None, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| {
            let number = text.parse::<u64>();
            number.map_err(|_| format!("'{text}' is no number"))
        };
        match word.as_str() {
            "--socket" => args.sockets.push(value()?.into()),
            "--sockets" => dir = Some(PathBuf::from(value()?)),
            "--count" => count = number(value()?)?,
            "--latency-ms" => args.latency = Duration::from_millis(number(value()?)?),
            "--fail-every" => args.fail_every = number(value()?)?,
            _ => return Err(format!("unknown argument '{word}'")),
        }
    }
    if let Some(dir) = dir {
        args.sockets
            .extend((0..count).map(|n| dir.join(format!("{n}.sock"))));
    }
    if args.sockets.is_empty() {
        return Err("say --socket PATH, or --sockets DIR --count N".to_owned());
    }
    Ok(args)
}
