//! The container image that `scripts/image` makes (state-engine 10.6).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::engine::{self, endpoint};
use crate::support::{Scratch, alone, http};

/// The image of the program under test; `scripts/test` does not build the static one.
fn image(scratch: &Scratch) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = scratch.0.join("helios");
    std::fs::copy(env!("CARGO_BIN_EXE_helios"), &binary).unwrap();
    let mut command = Command::new(root.join("scripts/image"));
    let output = command.env("HELIOS_BINARY", &binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    PathBuf::from(text.lines().last().unwrap())
}

#[test]
fn se_10_6_the_image_is_the_binary_and_what_an_engine_has_to_know() {
    let _alone = alone();
    let scratch = Scratch::new();
    let path = image(&scratch);
    let tar = std::fs::read(&path).unwrap();
    let binary = std::fs::metadata(scratch.0.join("helios")).unwrap().len();
    let more = tar.len() as u64 - binary;
    assert!(more <= 10 * 1024, "{more} bytes beside the binary");
    assert_eq!(
        std::fs::read(image(&scratch)).unwrap(),
        tar,
        "the same again"
    );

    let headers = [("content-type", "application/x-tar")];
    let (status, said) = http(
        endpoint(),
        "POST",
        "/images/load?quiet=1",
        &headers,
        Some(&tar),
    );
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&said));
    let name = concat!("helios:", env!("CARGO_PKG_VERSION"));
    let (_, found) = engine::call("GET", &format!("/images/{name}/json"), None);
    let config = &found["Config"];
    assert_eq!(config["Cmd"], json!(["helios", "start"]));
    let volumes = json!({"/config/helios": {}, "/cache/helios": {}, "/local/helios": {}});
    assert_eq!(config["Volumes"], volumes);
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "helios", "healthcheck"])
    );
    assert_eq!(config["Healthcheck"]["Interval"], 300_000_000_000_u64);
    assert_eq!(
        config["Labels"]["org.opencontainers.image.licenses"],
        "Apache-2.0"
    );
    let size = found["Size"].as_u64().unwrap();
    assert!(size - binary < 1024, "{size}: there is nothing else in it");
    assert_eq!(
        engine::call("DELETE", &format!("/images/{name}"), None).0,
        200
    );
}
