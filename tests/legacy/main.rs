//! A stand-in for the legacy supervisor, for tests and demonstrations: real HTTP, with the
//! endpoints, User-Agent, timings and quirks of the real one (remote-api 6, 9.3).
//!
//! It polls the API endpoint in its settings for its target, "applies" what it gets, and
//! patches state reports. Its own API answers on the port in its settings. Where a setting
//! overrides that endpoint or that port, it does as the real one does after a takeover
//! (remote-api 8.3). What it is asked to do wrong is in [`state::Quirks`].
//!
//! Usage: `cargo run --example legacy -- [--settings FILE | --settings-command CMD]
//! [--control IP:PORT]`; without either, `$LEGACY_SETTINGS` holds the settings. They are
//! JSON, see [`state::Settings`], and are read anew at every restart. `--settings-command`
//! is for whoever keeps them elsewhere, as in a database: a shell command that prints them.
//!
//! Control routes, on an address of their own that outlives every restart:
//!
//! | route | does |
//! |---|---|
//! | `PUT /quirks` | what it does wrong from now on; those not named are off |
//! | `POST /restart?ms=N` | all connections break, and nothing answers for so long |
//! | `POST /poll` | it polls at once |
//! | `GET /seen` | what it was asked on its own API, oldest first |
//! | `GET /polls` | its polls, and their answers' status and ETag |
//! | `GET /target` | the document it got last |
//! | `GET /reports` | the status of each report it sent, with when |
//! | `PUT /apps` | the `apps` it reports from now on |

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Timer, block_on};
use futures_lite::future;
use helios::http::server::{Listener, Server};

mod agent;
mod api;
mod control;
mod state;

use state::{Settings, Shared};

/// Where the settings come from.
enum Source {
    File(PathBuf),
    Command(String),
    Environment,
}

impl Source {
    fn read(&self) -> Result<Settings, String> {
        let text = match self {
            Source::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            Source::Command(command) => {
                let output = Command::new("sh").args(["-c", command]).output();
                let output = output.map_err(|error| format!("cannot run sh: {error}"))?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(format!("the settings' command failed: {said}"));
                }
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Source::Environment => std::env::var("LEGACY_SETTINGS").map_err(
                |_| "say --settings FILE or --settings-command CMD, or set LEGACY_SETTINGS",
            )?,
        };
        serde_json::from_str(&text).map_err(|error| format!("the settings: {error}"))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("legacy: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let (source, control) = args()?;
    let shared = Arc::new(Shared::default());
    let executor = Executor::new();
    if let Some(address) = control {
        let listener = listen(address)?;
        println!("control on {}", listener.local_addr());
        let server = Server::new(vec![listener], Arc::new(control::Control(shared.clone())));
        executor
            .spawn(server.run(future::pending(), Duration::ZERO))
            .detach();
    }
    block_on(executor.run(async {
        loop {
            // The real one is restarted by the service manager if it cannot even start.
            let settings = source.read()?;
            let down = life(&shared, settings).await?;
            println!("restarting, back in {} ms", down.as_millis());
            Timer::after(down).await;
        }
    }))
}

/// From one start to the next restart; how long it stays away then.
async fn life(shared: &Arc<Shared>, settings: Settings) -> Result<Duration, String> {
    let address = settings.address()?;
    let listener = listen(address)?;
    println!("legacy supervisor on {}", listener.local_addr());
    let _ = std::io::stdout().flush();
    let settings = Arc::new(settings);
    let api = api::Api {
        settings: settings.clone(),
        shared: shared.clone(),
    };
    let server = Server::new(vec![listener], Arc::new(api));
    let (stop, stopped) = async_channel::bounded::<()>(1);
    let serving = server.run(
        async move {
            let _ = stopped.recv().await;
        },
        Duration::ZERO,
    );
    let working = agent::run(shared.clone(), settings);
    let restart = async {
        // One that was asked for while it was down has happened.
        let mut down = shared.restarts.recv().await;
        while let Ok(next) = shared.restarts.try_recv() {
            down = Ok(next);
        }
        down.unwrap_or_default()
    };
    let down = future::or(restart, async {
        future::zip(serving, working).await;
        Duration::ZERO
    })
    .await;
    // Dropped with the future above: every connection breaks, as when a process dies.
    drop(stop);
    shared.forget_life();
    Ok(down)
}

fn listen(address: SocketAddr) -> Result<Listener, String> {
    let listener = Listener::bind_tcp(address);
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn args() -> Result<(Source, Option<SocketAddr>), String> {
    let (mut source, mut control) = (Source::Environment, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--settings" => source = Source::File(value()?.into()),
            "--settings-command" => source = Source::Command(value()?),
            "--control" => {
                let address = value()?;
                let parsed = address.parse();
                control = Some(parsed.map_err(|_| format!("'{address}' is no IP:PORT"))?);
            }
            _ => return Err(format!("unknown argument '{word}'")),
        }
    }
    Ok((source, control))
}
