//! The agent: arguments in, exit code out. Everything else is in the library.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use helios::args::{self, Args, Command, Usage, Variables};
use helios::clients;
use helios::config::{self, Dirs};
use helios::identity::Identity;
use helios::run::{self, Failed};
use helios::{start, volumes};

fn main() -> ExitCode {
    match command() {
        Ok(code) => code,
        Err(Stop::Usage(Usage(why))) => exit(&why, 2),
        Err(Stop::Failed(Failed(why))) => exit(&why, 1),
    }
}

enum Stop {
    Usage(Usage),
    Failed(Failed),
}

impl From<Usage> for Stop {
    fn from(usage: Usage) -> Stop {
        Stop::Usage(usage)
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Stop {
        Stop::Failed(failed)
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn command() -> Result<ExitCode, Stop> {
    let typed: Vec<_> = std::env::args_os().collect();
    let program = typed
        .first()
        .map(std::path::Path::new)
        .and_then(|path| path.file_name());
    let is_takeover = program.is_some_and(|name| name == "helios-legacy-takeover");
    let typed = typed.into_iter().skip(1);
    if is_takeover {
        return takeover(typed);
    }
    match args::parse(typed, |name| std::env::var_os(name))? {
        Command::Help => print(&args::help()),
        Command::Version => print(&format!("helios {}\n", env!("CARGO_PKG_VERSION"))),
        Command::LocalKey => print(&format!(
            "{}\n",
            run::local_key(&Dirs::from_env(&env).config)?
        )),
        Command::Volumes(remove) => {
            let engine = config::engine_address(env("DOCKER_HOST").as_deref())?;
            let dirs = Dirs::from_env(&env);
            let text = volumes::main(clients::endpoint(engine), &dirs, remove.as_deref())?;
            print(&text)
        }
        Command::Doctor => {
            let engine = config::engine_address(env("DOCKER_HOST").as_deref())?;
            let (text, works) = helios::doctor::main(clients::endpoint(engine), &env);
            print(&text)?;
            Ok(ExitCode::from(u8::from(!works)))
        }
        Command::Check(words) => Ok(helios::check::main(&words)),
        Command::Run(args) => {
            helios::log::start(env("RUST_LOG").as_deref());
            agent(&args, &env)
        }
        Command::Start(rest) => start(rest),
        Command::Healthcheck => print(&start::healthcheck(&env)?),
    }
}

fn agent(args: &Args, env: &Variables<'_>) -> Result<ExitCode, Stop> {
    let identity = Identity::below(&Dirs::from_env(env).config);
    let registers_at = config::registers_at(args)?;
    let known = identity.known(registers_at.as_deref(), config::is_identity_given(args))?;
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    run::run(config::config(args, env, &known, &read)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The agent of a device's container: its variables are another's, and an older supervisor
/// may be there.
fn start(rest: Vec<OsString>) -> Result<ExitCode, Stop> {
    helios::log::start(env("RUST_LOG").as_deref());
    let started = start::translate(&env)?;
    for warning in &started.warnings {
        log::warn!("{warning}");
    }
    let env = |name: &str| started.get(name, &env);
    let Command::Run(args) = args::parse(rest, |name| env(name).map(OsString::from))? else {
        return Err(Usage("helios start takes only options of the agent".into()).into());
    };
    #[cfg(feature = "legacy")]
    if let Some(wanted) = &started.takeover {
        let has_its_turn = helios::takeover::begin(wanted, &env)?;
        if !has_its_turn {
            return Ok(ExitCode::SUCCESS);
        }
    }
    agent(&args, &env)
}

#[cfg(feature = "legacy")]
fn takeover(typed: impl Iterator<Item = OsString>) -> Result<ExitCode, Stop> {
    use helios::takeover::{self, args};
    match args::parse(typed)? {
        args::Command::Help => print(args::HELP),
        args::Command::Version => print(&format!("helios {}\n", env!("CARGO_PKG_VERSION"))),
        args::Command::Run(asked) => {
            helios::log::start(env("RUST_LOG").as_deref());
            takeover::main(&asked, &env)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(not(feature = "legacy"))]
fn takeover(_: impl Iterator<Item = OsString>) -> Result<ExitCode, Stop> {
    let why = "helios-legacy-takeover: this build knows no legacy supervisor";
    Err(Usage(why.to_owned()).into())
}

/// A reader that went away is no reason to panic.
fn print(text: &str) -> Result<ExitCode, Stop> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn exit(why: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "helios: {why}");
    ExitCode::from(code)
}
