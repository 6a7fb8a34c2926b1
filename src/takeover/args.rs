//! What was typed for `helios-legacy-takeover` (remote-api 8.1). Checks syntax only.

use std::ffi::OsString;
use std::net::IpAddr;

use crate::args::Usage;
use crate::http::url::Url;
use crate::world::takeover::Settings;

/// Where a legacy supervisor listens once it was told another port: the host's end of the
/// network that its containers reach it by (remote-api 8.3).
pub const LEGACY_HOST: &str = "10.114.104.1";

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Take over, or hand back.
    Run(Takeover),
    /// Print the help text.
    Help,
    /// Print the version.
    Version,
}

/// What to do, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Takeover {
    /// What the supervisor is told; `None` hands back.
    pub wanted: Option<Wanted>,
    /// How it restarts.
    pub by: By,
    /// Update locks are disregarded when it is handed back.
    pub force: bool,
}

/// What the supervisor is told when it is taken over from.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The address that it takes for the backend, checked (R-TKO-3).
    pub endpoint: String,
    /// Where it listens from then on.
    pub port: u16,
    /// The host that it answers on then.
    pub host: String,
}

/// How the supervisor restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// As a unit, where there is a system bus, else as a container.
    Either,
    /// As a unit of the host's service manager.
    Unit,
    /// As a container of the engine.
    Container,
}

impl Wanted {
    /// The values of the supervisor's database.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            endpoint: Some(self.endpoint.clone()),
            port: Some(self.port.to_string()),
        }
    }
}

/// The text of `--help`.
pub const HELP: &str = "\
helios-legacy-takeover: makes a running legacy supervisor work with this agent, and undoes it

Usage: helios-legacy-takeover --override-host URL --override-port PORT [OPTIONS]
       helios-legacy-takeover --restore [--force]

Either may be run again at any time, and goes on where a run that was killed ended. The last
line says what was done: not-present, already-configured, migrated, restored, already-restored.

Options:
  --override-host URL
          The agent's address on this host, which the supervisor takes for the backend:
          http, loopback or private
  --override-port PORT
          Where the supervisor listens from then on
  --legacy-host HOST
          The host that it answers on then. Default: 10.114.104.1
  --restore
          Hand back: containers of this agent are removed, volumes never, and the supervisor
          gets the settings that it had. The agent must have stopped
  --force
          Disregard the services' update locks
  --restart unit|container
          How the supervisor restarts. Default: its unit, where there is a system bus
  -h, --help
  -V, --version
";

/// Reads the command line. There are no variables for these.
///
/// # Errors
/// [`Usage`] names the option and says what is wrong with it.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let (mut endpoint, mut port, mut host) = (None, None, None);
    let (mut restore, mut force, mut by) = (false, false, By::Either);
    let mut parser = lexopt::Parser::from_args(typed);
    while let Some(arg) = parser.next().map_err(usage)? {
        let name = match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(Command::Help),
            lexopt::Arg::Short('V') | lexopt::Arg::Long("version") => return Ok(Command::Version),
            lexopt::Arg::Long("restore") => {
                restore = true;
                continue;
            }
            lexopt::Arg::Long("force") => {
                force = true;
                continue;
            }
            lexopt::Arg::Long(name) => name.to_owned(),
            other => return Err(usage(other.unexpected())),
        };
        let mut value = || {
            parser
                .value()
                .map_err(usage)?
                .into_string()
                .map_err(not_text)
        };
        match &*name {
            "override-host" => endpoint = Some(address(&value()?)?),
            "override-port" => port = Some(number(&value()?)?),
            "legacy-host" => host = Some(legacy_host(&value()?)?),
            "restart" => by = how(&value()?)?,
            _ => return Err(Usage(format!("unknown option --{name}; see --help"))),
        }
    }
    let wanted = match (restore, endpoint, port) {
        (false, Some(endpoint), Some(port)) => Some(Wanted {
            endpoint,
            port,
            host: host.unwrap_or_else(|| LEGACY_HOST.to_owned()),
        }),
        (false, None, _) => return Err(Usage("--override-host is missing; see --help".into())),
        (false, _, None) => return Err(Usage("--override-port is missing; see --help".into())),
        (true, None, None) => None,
        (true, ..) => return Err(Usage("--restore takes no settings; see --help".into())),
    };
    if force && wanted.is_some() {
        return Err(Usage("--force means nothing without --restore".into()));
    }
    Ok(Command::Run(Takeover { wanted, by, force }))
}

fn usage(error: lexopt::Error) -> Usage {
    Usage(format!("{error}; see --help"))
}

fn not_text(_: OsString) -> Usage {
    Usage("a value is not UTF-8 text".into())
}

/// An address of this machine, as upstream writes it: with a slash where there is no path.
///
/// # Errors
/// [`Usage`] when it is no URL, or leads elsewhere (R-TKO-3).
pub fn address(text: &str) -> Result<String, Usage> {
    let wrong = |why: &str| Usage(format!("--override-host '{text}': {why}"));
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if url.is_tls() {
        return Err(wrong("expected http"));
    }
    if text.contains(['\'', '"']) {
        return Err(wrong("it holds a quote"));
    }
    let is_near = match url.host().parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => url.host() == "localhost",
    };
    if !is_near {
        return Err(wrong("expected a loopback or private address"));
    }
    Ok(url.to_string())
}

/// A port to listen on.
///
/// # Errors
/// [`Usage`] when it is none.
pub fn number(text: &str) -> Result<u16, Usage> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if digits => Ok(port),
        _ => Err(Usage(format!(
            "--override-port: expected a number from 1 to 65535, got '{text}'"
        ))),
    }
}

fn legacy_host(text: &str) -> Result<String, Usage> {
    let authority = if text.contains(':') {
        format!("http://[{text}]")
    } else {
        format!("http://{text}")
    };
    match Url::parse(&authority) {
        Ok(url) if url.path().is_empty() => Ok(url.host().to_owned()),
        _ => Err(Usage(format!("--legacy-host: '{text}' is no host"))),
    }
}

fn how(text: &str) -> Result<By, Usage> {
    match text {
        "unit" => Ok(By::Unit),
        "container" => Ok(By::Container),
        _ => Err(Usage(format!(
            "--restart: expected unit or container, got '{text}'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Command, Usage> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn s_tko_17_bad_options_are_named() {
        #[rustfmt::skip]
        let cases = [
            ("", "--override-host"),
            ("--override-host http://127.0.0.1:48484", "--override-port"),
            ("--override-port 48480", "--override-host"),
            ("--override-host http://127.0.0.1 --override-port 70000", "--override-port"),
            ("--override-host http://127.0.0.1 --override-port 0", "--override-port"),
            ("--override-host http://127.0.0.1 --override-port +1", "--override-port"),
            ("--override-host 127.0.0.1:48484 --override-port 1", "--override-host"),
            ("--override-host https://127.0.0.1 --override-port 1", "--override-host"),
            ("--override-host http://127.0.0.1/' --override-port 1", "--override-host"),
            ("--override-host http://o'hara --override-port 1", "--override-host"),
            ("--override-host http://8.8.8.8 --override-port 1", "--override-host"),
            ("--override-host http://api.example.com --override-port 1", "--override-host"),
            ("--override-host", "override-host"),
            ("--restore --override-port 1", "--restore"),
            ("--force --override-host http://[::1] --override-port 1", "--force"),
            ("--restore --restart never", "--restart"),
            ("--override-host http://[::1] --override-port 1 --legacy-host a/b", "--legacy-host"),
            ("--nope", "--nope"),
            ("word", "word"),
        ];
        for (line, want) in cases {
            let error = run(line).unwrap_err();
            assert!(error.0.contains(want), "{line}: {}", error.0);
        }
    }

    #[test]
    fn r_tko_1_values_are_written_in_upstream_s_form() {
        let settings = |line: &str| match run(line) {
            Ok(Command::Run(Takeover { wanted, .. })) => wanted.unwrap().settings(),
            other => panic!("{line}: {other:?}"),
        };
        for slash in ["", "/"] {
            let line =
                format!("--override-host http://127.0.0.1:48484{slash} --override-port 48480");
            let found = settings(&line);
            assert_eq!(found.endpoint.as_deref(), Some("http://127.0.0.1:48484/"));
            assert_eq!(found.port.as_deref(), Some("48480"));
        }
        for host in ["localhost:1", "10.0.0.1", "192.168.1.1/x", "[fd00::1]"] {
            settings(&format!("--override-host http://{host} --override-port 1"));
        }
        let restore = Takeover {
            wanted: None,
            by: By::Container,
            force: true,
        };
        let line = "--restore --force --restart container";
        assert_eq!(run(line), Ok(Command::Run(restore)));
        assert_eq!(run("--help --nope"), Ok(Command::Help));
        assert_eq!(run("-V"), Ok(Command::Version));
    }
}
