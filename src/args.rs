//! What was typed: options, their environment forms, the help text.
//!
//! Checks syntax only and has no side effects, so `--help` always works. What
//! follows from it all is `config`'s business.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

/// An option or argument that cannot be used: exit code 2 and one sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(pub String);

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the agent.
    Run(Args),
    /// Print the help text.
    Help,
    /// Print the version.
    Version,
    /// Print the local API key, making one if there is none (D-27).
    LocalKey,
    /// List the volumes, or remove the one that is named (D-12).
    Volumes(Option<String>),
    /// Say what this machine offers an agent.
    Doctor,
    /// Judge a document offline (D-33): the words behind `check`.
    Check(Vec<String>),
    /// Run the agent as a device's container does (state-engine 10.5): the words behind `start`.
    Start(Vec<OsString>),
    /// Ask the agent of this container whether it works (state-engine 10.6).
    Healthcheck,
}

/// Every option's value as typed; `None` when neither option nor variable is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    values: Vec<(&'static str, String)>,
}

impl Args {
    /// The value of an option that is an absolute directory.
    ///
    /// # Errors
    /// When it is not absolute.
    pub fn dir(&self, name: &str) -> Result<Option<PathBuf>, Usage> {
        match self.get(name).map(PathBuf::from) {
            Some(dir) if !dir.is_absolute() => {
                Err(Usage(format!("--{name}: the path is not absolute")))
            }
            dir => Ok(dir),
        }
    }

    /// The value of an option, without its dashes. The last one typed counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| &**value)
    }

    /// All values of an option that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| &**value)
    }
}

struct Opt {
    /// Without dashes. The variable is `HELIOS_` and the name in capitals.
    name: &'static str,
    /// What stands for the value in the help text.
    value: &'static str,
    help: &'static str,
    /// Options without which this one means nothing.
    requires: &'static [&'static str],
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// Given once.
    One,
    /// May be repeated; a list by comma in the environment.
    Many,
    /// Part of the interface, and not there yet: refused with this sentence.
    Later(&'static str),
}

const LEGACY: Kind = if cfg!(feature = "legacy") {
    Kind::One
} else {
    Kind::Later("this build knows no legacy supervisor")
};
/// Every option (state-engine 10.2, D-36).
#[rustfmt::skip]
const OPTIONS: &[Opt] = &[
    Opt { name: "uuid", value: "UUID", kind: Kind::One, requires: &[],
        help: "This device's uuid. Default: the stored one, else a random one" },
    Opt { name: "host-os-version", value: "\"NAME [VERSION[@BUILD]]\"", kind: Kind::One, requires: &[],
        help: "What the host runs" },
    Opt { name: "host-runtime-dir", value: "DIR", kind: Kind::One, requires: &[],
        help: "The host's name of the runtime directory, for locks that containers see" },
    Opt { name: "host-state-dir", value: "DIR", kind: Kind::One, requires: &[],
        help: "Where the host's state partition is seen. Default: /mnt/state" },
    Opt { name: "local-api-address", value: "ADDR", kind: Kind::Many, requires: &[],
        help: "IP:PORT or a socket's path; tcp: and unix: say which. Default: no API" },
    Opt { name: "remote-api-endpoint", value: "URL", kind: Kind::One, requires: &[],
        help: "The backend. Default: none, the agent runs unmanaged" },
    Opt { name: "remote-api-key", value: "KEY", kind: Kind::One, requires: &["uuid", "remote-api-endpoint"],
        help: "This device's key at the backend" },
    Opt { name: "remote-api-key-file", value: "FILE", kind: Kind::One, requires: &["uuid", "remote-api-endpoint"],
        help: "A file with that key, which keeps it out of the process list" },
    Opt { name: "remote-ca-file", value: "FILE", kind: Kind::One, requires: &[],
        help: "PEM certificates of authorities to trust besides the known ones" },
    Opt { name: "remote-request-timeout-ms", value: "MS", kind: Kind::One, requires: &[],
        help: "One request to the backend, in all. Default: 59000" },
    Opt { name: "remote-poll-interval-ms", value: "MS", kind: Kind::One, requires: &[],
        help: "Between two polls. Default: what the target says, else 900000" },
    Opt { name: "remote-poll-min-interval-ms", value: "MS", kind: Kind::One, requires: &[],
        help: "Between two requests at least. Default: 10000" },
    Opt { name: "remote-poll-max-jitter-ms", value: "MS", kind: Kind::One, requires: &[],
        help: "Added at random to the poll interval. Default: 60000" },
    Opt { name: "registry-auth-host", value: "HOST", kind: Kind::Many, requires: &[],
        help: "A registry that gets this device's key besides the backend's own" },
    Opt { name: "local-retry-interval-ms", value: "MS", kind: Kind::One, requires: &[],
        help: "The first wait after something failed; it grows from there. Default: 30000" },
    Opt { name: "pulls-max", value: "N", kind: Kind::One, requires: &[],
        help: "Images pulled at once. Default: 2" },
    Opt { name: "disk-reserve-mib", value: "MIB", kind: Kind::One, requires: &[],
        help: "Nothing is pulled while the engine has less free space. Default: 256" },
    Opt { name: "user-apps", value: "auto|on|off", kind: Kind::One, requires: &[],
        help: "Whether this agent manages user apps. Default: auto" },
    Opt { name: "legacy-api-endpoint", value: "URL", kind: LEGACY, requires: &["legacy-api-key"],
        help: "The legacy supervisor's API: this agent stands between it and everybody else" },
    Opt { name: "legacy-api-key", value: "KEY", kind: LEGACY, requires: &["legacy-api-endpoint"],
        help: "The key of that API" },
    Opt { name: "legacy-settle-limit-ms", value: "MS", kind: LEGACY, requires: &["legacy-api-endpoint"],
        help: "It is not waited for any longer to apply a target. Default: 0, no limit" },
    Opt { name: "provisioning-key", value: "KEY", kind: Kind::One,
        requires: &["remote-api-endpoint", "provisioning-fleet", "provisioning-device-type"],
        help: "Registers this device once, with this key; later starts need none of these" },
    Opt { name: "provisioning-fleet", value: "ID", kind: Kind::One, requires: &["provisioning-key"],
        help: "The number of the fleet to register in" },
    Opt { name: "provisioning-device-type", value: "TYPE", kind: Kind::One, requires: &["provisioning-key"],
        help: "The device type to register" },
    Opt { name: "provisioning-os-version", value: "TEXT", kind: Kind::One, requires: &["provisioning-key"],
        help: "What the backend is told. Default: what --host-os-version says" },
    Opt { name: "provisioning-supervisor-version", value: "TEXT", kind: Kind::One, requires: &["provisioning-key"],
        help: "The same. Default: nothing" },
];

/// The environment. One type for all, so that what reads it is built once.
pub type Variables<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// Reads the command line and, for what it leaves open, the environment.
///
/// # Errors
/// [`Usage`] names the option and says what is wrong with it.
pub fn parse(
    typed: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, Usage> {
    read(typed.into_iter().collect(), &env)
}

fn read(typed: Vec<OsString>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Command, Usage> {
    let mut args = Args::default();
    let mut parser = lexopt::Parser::from_args(typed);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(Command::Help),
            lexopt::Arg::Short('V') | lexopt::Arg::Long("version") => return Ok(Command::Version),
            lexopt::Arg::Long(name) => {
                let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
                    return Err(Usage(format!("unknown option --{name}; see helios --help")));
                };
                let value = text(option, "--", parser.value().map_err(usage)?)?;
                args.add(option, value)?;
            }
            lexopt::Arg::Value(word) if word == "local-key" => return Ok(Command::LocalKey),
            lexopt::Arg::Value(word) if word == "volumes" => return volumes(parser),
            lexopt::Arg::Value(word) if word == "doctor" => return Ok(Command::Doctor),
            lexopt::Arg::Value(word) if word == "healthcheck" => return Ok(Command::Healthcheck),
            lexopt::Arg::Value(word) if word == "start" => {
                let rest = parser.raw_args().map_err(usage)?;
                return Ok(Command::Start(rest.collect()));
            }
            lexopt::Arg::Value(word) if word == "check" => {
                let rest = parser.raw_args().map_err(usage)?;
                let rest = rest.map(|word| word.to_string_lossy().into_owned());
                return Ok(Command::Check(rest.collect()));
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    args.add_environment(env)?;
    args.check_requirements()?;
    Ok(Command::Run(args))
}

fn volumes(mut parser: lexopt::Parser) -> Result<Command, Usage> {
    let mut remove = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            lexopt::Arg::Long("remove") if remove.is_none() => {
                let name = parser.value().map_err(usage)?;
                remove = Some(name.to_string_lossy().into_owned());
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    Ok(Command::Volumes(remove))
}

fn usage(error: lexopt::Error) -> Usage {
    Usage(format!("{error}; see helios --help"))
}

fn text(option: &Opt, dashes: &str, value: OsString) -> Result<String, Usage> {
    let value = value.into_string();
    value.map_err(|_| {
        Usage(format!(
            "{dashes}{}: the value is not UTF-8 text",
            option.name
        ))
    })
}

impl Args {
    fn add(&mut self, option: &'static Opt, value: String) -> Result<(), Usage> {
        if let Kind::Later(why) = option.kind {
            return Err(Usage(format!("--{}: {why}", option.name)));
        }
        if value.is_empty() {
            return Err(Usage(format!("--{}: the value is empty", option.name)));
        }
        if option.kind == Kind::One && self.get(option.name).is_some() {
            return Err(Usage(format!("--{} is given twice", option.name)));
        }
        self.values.push((option.name, value));
        Ok(())
    }

    /// An option that was typed wins over its variable; an empty variable is none.
    fn add_environment(&mut self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(), Usage> {
        for option in OPTIONS {
            let name = variable(option.name);
            let Some(value) = env(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            if self.get(option.name).is_some() {
                continue;
            }
            let value = text(option, "", value)?;
            match option.kind {
                Kind::Many => {
                    for part in value
                        .split(',')
                        .map(str::trim)
                        .filter(|part| !part.is_empty())
                    {
                        self.add(option, part.to_owned())?;
                    }
                }
                _ => self.add(option, value)?,
            }
        }
        Ok(())
    }

    fn check_requirements(&self) -> Result<(), Usage> {
        for option in OPTIONS
            .iter()
            .filter(|option| self.get(option.name).is_some())
        {
            if let Some(missing) = option.requires.iter().find(|name| self.get(name).is_none()) {
                return Err(Usage(format!("--{} needs --{missing}", option.name)));
            }
        }
        Ok(())
    }
}

/// `local-api-address` -> `HELIOS_LOCAL_API_ADDRESS`.
fn variable(name: &str) -> String {
    format!("HELIOS_{}", name.replace('-', "_").to_ascii_uppercase())
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!(
        "helios {}: keeps an edge device at the state its owner wants\n\n\
         Usage: helios [OPTIONS]            run the agent\n       \
         helios local-key            print the key of the local API\n       \
         helios check [OPTIONS] FILE judge a target document offline\n       \
         helios volumes              list volumes, and who uses them\n       \
         helios volumes --remove VOLUME  remove an unused one and its data\n       \
         helios doctor               say what this machine offers, and what follows\n       \
         helios start [OPTIONS]      run it as a device's container: BALENA_* variables are\n                                   \
         translated, a legacy supervisor is taken over from\n       \
         helios healthcheck          ask the agent of this container whether it works\n\n\
         A volume is used when a container mounts it, running or not, or when the last\n\
         accepted target names it, as far as this user can read that.\n\n\
         Every option can come from the environment: --local-api-address is\n\
         HELIOS_LOCAL_API_ADDRESS. What is typed wins. Times are milliseconds.\n\nOptions:\n",
        env!("CARGO_PKG_VERSION")
    );
    for option in OPTIONS {
        let many = if option.kind == Kind::Many {
            " (repeatable)"
        } else {
            ""
        };
        let usage = format!("--{} {}", option.name, option.value);
        let _ = writeln!(text, "  {usage}\n          {}{many}", option.help);
    }
    text.push_str(
        "  -h, --help\n          Print this\n  -V, --version\n          Print the version\n\n\
         Other variables: DOCKER_HOST (unix://, tcp://, http://), XDG_CONFIG_HOME,\n\
         XDG_STATE_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR, SSL_CERT_FILE, HTTP_PROXY,\n\
         HTTPS_PROXY and NO_PROXY for the backend, RUST_LOG.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, env: &[(&str, &str)]) -> Result<Command, Usage> {
        let find = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        parse(line.split_whitespace().map(OsString::from), find)
    }

    fn args(line: &str, env: &[(&str, &str)]) -> Args {
        match run(line, env) {
            Ok(Command::Run(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn typed_wins_over_environment() {
        let env = [
            ("HELIOS_UUID", "env"),
            ("HELIOS_PULLS_MAX", "3"),
            ("HELIOS_USER_APPS", ""),
        ];
        let args = args("--uuid typed", &env);
        assert_eq!(args.get("uuid"), Some("typed"));
        assert_eq!(args.get("pulls-max"), Some("3"));
        assert_eq!(args.get("user-apps"), None, "an empty variable is none");
    }

    #[test]
    fn lists_repeat_and_split() {
        let typed = args("--local-api-address a --local-api-address b", &[]);
        assert_eq!(
            typed.all("local-api-address").collect::<Vec<_>>(),
            ["a", "b"]
        );
        let env = args("", &[("HELIOS_REGISTRY_AUTH_HOST", "a, b,")]);
        assert_eq!(
            env.all("registry-auth-host").collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn usage_errors_name_the_option() {
        #[rustfmt::skip]
        let cases = [
            ("--nope 1", "--nope"),
            ("--uuid", "uuid"),
            ("--uuid a --uuid b", "--uuid"),
            ("--uuid=", "--uuid"),
            ("--remote-api-key k", "needs --uuid"),
            ("--remote-api-key k --uuid u", "needs --remote-api-endpoint"),
            ("--legacy-api-endpoint http://h", "legacy"),
            ("--provisioning-key k", "needs --remote-api-endpoint"),
            ("--provisioning-key k --remote-api-endpoint http://h", "needs --provisioning-fleet"),
            ("--provisioning-fleet 1", "needs --provisioning-key"),
            ("word", "word"),
            ("-x", "-x"),
        ];
        for (line, want) in cases {
            let error = run(line, &[]).unwrap_err();
            assert!(error.0.contains(want), "{line}: {}", error.0);
        }
        let error = run("", &[("HELIOS_LEGACY_API_KEY", "k")]).unwrap_err();
        assert!(error.0.contains("--legacy-api-key"), "{}", error.0);
    }

    #[test]
    fn help_and_version_always_work() {
        assert!(run("--nothing-before --help", &[]).is_err());
        assert_eq!(run("--help --nope", &[]), Ok(Command::Help));
        assert_eq!(run("-V", &[]), Ok(Command::Version));
        assert_eq!(run("local-key", &[]), Ok(Command::LocalKey));
        assert_eq!(run("doctor", &[]), Ok(Command::Doctor));
        assert_eq!(run("volumes", &[]), Ok(Command::Volumes(None)));
        let remove = Ok(Command::Volumes(Some("v_a1".into())));
        assert_eq!(run("volumes --remove v_a1", &[]), remove);
        for line in [
            "volumes --remove",
            "volumes v",
            "volumes --remove a --remove b",
        ] {
            assert!(run(line, &[]).is_err(), "{line}");
        }
        assert_eq!(
            run("check - x", &[]),
            Ok(Command::Check(vec!["-".into(), "x".into()]))
        );
        for option in OPTIONS {
            assert!(
                help().contains(&format!("--{} ", option.name)),
                "{}",
                option.name
            );
        }
    }
}
