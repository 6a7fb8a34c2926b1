//! The legacy supervisor, and whose user apps are (D-08).

use std::time::Duration;

use super::{Secret, header_safe, ms};
use crate::args::{Args, Usage};
use crate::http::url::Url;

/// The legacy supervisor's local API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyConfig {
    /// Its URL, checked.
    pub endpoint: String,
    /// Its key.
    pub key: Secret,
    /// It is not waited for any longer to apply a target (R-TRG-8).
    pub settle_limit: Option<Duration>,
}

/// The legacy supervisor, if there is one.
pub(super) fn legacy(args: &Args) -> Result<Option<LegacyConfig>, Usage> {
    let (Some(endpoint), Some(key)) = (args.get("legacy-api-endpoint"), args.get("legacy-api-key"))
    else {
        return Ok(None);
    };
    let parsed = Url::parse(endpoint).map_err(|why| why.to_string());
    let why = match parsed {
        Ok(url) if !url.is_tls() => {
            return Ok(Some(LegacyConfig {
                endpoint: endpoint.to_owned(),
                key: header_safe(key.to_owned(), "the legacy API key")?,
                settle_limit: Some(ms(args, "legacy-settle-limit-ms", 0)?)
                    .filter(|limit| !limit.is_zero()),
            }));
        }
        Ok(_) => "it is on this machine, and speaks plain http".to_owned(),
        Err(why) => why,
    };
    Err(Usage(format!("--legacy-api-endpoint: {why}")))
}

/// Whether user apps are ours (D-08).
pub(super) fn user_apps(args: &Args, has_legacy: bool) -> Result<bool, Usage> {
    match (args.get("user-apps"), has_legacy) {
        (None | Some("auto"), _) => Ok(!has_legacy),
        (Some("on"), _) => Ok(true),
        (Some("off"), true) => Ok(false),
        (Some("off"), false) => Err(Usage(
            "--user-apps off leaves user apps to a legacy supervisor, and there is none: \
             give --legacy-api-endpoint and --legacy-api-key"
                .into(),
        )),
        (Some(other), _) => Err(Usage(format!(
            "--user-apps: expected auto, on or off, got '{other}'"
        ))),
    }
}
