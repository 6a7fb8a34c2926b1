//! Each kind of document that the agent keeps, written and read by the code of the agent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use helios::flows::register::{self, Register};
use helios::host::clock::SystemClock;
use helios::http::client::{Endpoint, Timeouts};
use helios::http::url::Url;
use helios::identity::Identity;
use helios::model::identity::{Record, RecordRemote, RecordRequest};
use helios::remote::Backend;
use helios::remote::register::{About, Registrar};
use helios::run;
use helios::store::Files;
use helios::world::remote::Remote as _;
use helios::world::store::Store as _;

/// Documents of the store, by what they are.
pub const DOCUMENTS: &[(&str, &str)] = &[
    ("local edit", "local/6fd309b6db563863d07e75805cd2f98c"),
    ("app id", "apps/8a1f0c2be35f4d55a2b4f0d3c1e2a9b7/id"),
    ("app name", "apps/8a1f0c2be35f4d55a2b4f0d3c1e2a9b7/name"),
    (
        "release mark",
        "apps/8a1f0c2be35f4d55a2b4f0d3c1e2a9b7/releases/aa11/installed",
    ),
    (
        "drift record",
        "apps/8a1f0c2be35f4d55a2b4f0d3c1e2a9b7/drift",
    ),
    ("pulled mark", "pulled/218059594ad0f663154b66dd3d08a3c9"),
    ("report record", "reported"),
];

const UUID: &str = "0123456789abcdef0123456789abcdef";
const TIMES: Timeouts = Timeouts {
    resolve: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    tls: Duration::from_secs(5),
    head: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    total: Some(Duration::from_secs(20)),
};

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn document(kind: &str) -> Option<&'static str> {
    let found = DOCUMENTS.iter().find(|(name, _)| *name == kind);
    found.map(|(_, path)| *path)
}

fn endpoint(url: &Url) -> Endpoint {
    Endpoint::Tcp {
        host: url.host().into(),
        port: url.port(),
    }
}

/// The backend's client, for its cache.
fn backend(dir: &Path) -> Result<Backend, String> {
    let url = Url::parse("http://127.0.0.1:1").map_err(text)?;
    Ok(Backend::new(
        &url,
        endpoint(&url),
        TIMES,
        (UUID, "key"),
        dir,
    ))
}

/// A candidate for the backend at `url`, as the arguments of a first start give it.
fn candidate(url: &Url) -> Record {
    Record {
        uuid: String::new(),
        fleet: Some(1),
        device_type: Some("generic-amd64".into()),
        remote: RecordRemote {
            api_endpoint: url.to_string(),
            api_key: String::new(),
            request: RecordRequest::default(),
        },
    }
}

/// A start with a provisioning key, up to the identity: what `main` and `run` do.
fn register(dir: &Path, url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(text)?;
    let identity = Identity::below(dir);
    let known = identity.known(Some(&url.to_string()), false);
    let known = known.map_err(|run::Failed(why)| why)?;
    if known.stored.is_some() {
        return Ok(());
    }
    let candidate = known.candidate.unwrap_or_else(|| candidate(&url));
    let (record, is_kept) = identity.claim(candidate).map_err(|run::Failed(why)| why)?;
    let roots = Box::new(|| Err("no TLS here".to_owned()));
    let registrar = Registrar::new(&url, (endpoint(&url), TIMES), roots, "pk", About::default());
    let register = Register {
        remote: Arc::new(registrar),
        store: Arc::new(Files::below(dir)),
        clock: Arc::new(SystemClock::start()),
        board: Arc::default(),
        trigger: Arc::default(),
        record,
        is_kept,
        interval_min: Duration::from_millis(1),
    };
    // One that is refused never ends; whoever runs this sees to that.
    block_on(register::run(register));
    Ok(())
}

/// Brings a document of this kind to `value`; `Ok` says that it will be there after a power cut.
pub fn write(kind: &str, dir: &Path, value: &str) -> Result<(), String> {
    match kind {
        "registration" => register(dir, value),
        "identity" => {
            let known = Identity::below(dir).known(None, false);
            known.map(drop).map_err(|run::Failed(why)| why)
        }
        "local key" => {
            let key = run::local_key(dir).map_err(|run::Failed(why)| why)?;
            println!("{key}");
            Ok(())
        }
        // Best effort: a target that is not kept is asked for again.
        "target cache" => {
            let document = format!("{{\"{UUID}\":{{\"name\":\"{value}\"}}}}");
            block_on(backend(dir)?.keep(document.as_bytes()));
            match read(kind, dir)? {
                Some(kept) if kept == document => Ok(()),
                _ => Err("not kept".into()),
            }
        }
        "forgotten edits" => {
            let files = Files::open(dir).map_err(text)?;
            block_on(files.delete("local/")).map_err(text)
        }
        _ => {
            let path = document(kind).ok_or("no such kind")?;
            let files = Files::open(dir).map_err(text)?;
            block_on(files.put(path, value.as_bytes())).map_err(text)
        }
    }
}

/// What the next start finds.
pub fn read(kind: &str, dir: &Path) -> Result<Option<String>, String> {
    let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(text);
    match kind {
        "registration" | "identity" => {
            let known = Identity::below(dir).known(None, false);
            let known = known.map_err(|run::Failed(why)| why)?;
            let json = |record: &Record| serde_json::to_string(record).map_err(text);
            known.stored.as_ref().map(json).transpose()
        }
        "target cache" => block_on(backend(dir)?.cached()).map(utf8).transpose(),
        "local key" => {
            let found = Files::below(dir).read("local-api-key").map_err(text)?;
            found.map(utf8).transpose()
        }
        _ => {
            let path = document(if kind == "forgotten edits" {
                "local edit"
            } else {
                kind
            });
            let path = path.ok_or("no such kind")?;
            let found = Files::below(dir).read(path).map_err(text)?;
            found.map(utf8).transpose()
        }
    }
}
