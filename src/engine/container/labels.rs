//! Labels that the agent writes on what it makes, and reads back (state-engine 4.2, D-11).

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::base::json::fields;
use crate::base::map::Map;
use crate::model::ImageUri;
use crate::model::current::Identity;
use crate::world::engine::NewContainer;

pub use crate::engine::labels::{
    APP_UUID, CONFIG, DEPENDS_ON, FORMAT, SERVICE_ID, SERVICE_NAME, SUPERVISED,
};

/// The release a container was made for.
pub const RELEASE: &str = "io.balena.private.release";
/// The legacy supervisor's; not written here.
pub const APP_ID: &str = "io.balena.app-id";

/// Names that a document has no say in (target-state 4.4).
const RESERVED: &[&str] = &[
    CONFIG,
    RELEASE,
    DEPENDS_ON,
    APP_UUID,
    SERVICE_NAME,
    SERVICE_ID,
    SUPERVISED,
    APP_ID,
];

/// The document's labels, then ours.
pub(super) fn encode(new: &NewContainer<'_>, document: &Map<String, &str>) -> Map<String, String> {
    let mut labels: Map<String, String> = document
        .iter()
        .filter(|(key, _)| !RESERVED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), (*value).to_owned()))
        .collect();
    let mut set = |key: &str, value: String| drop(labels.insert(key.to_owned(), value));
    set(APP_UUID, new.app.as_str().to_owned());
    set(SERVICE_NAME, new.service.as_str().to_owned());
    set(SERVICE_ID, new.service_id.to_string());
    set(RELEASE, new.release.as_str().to_owned());
    set(CONFIG, identity(new.image, new.config_json));
    if !new.depends_on.is_empty() {
        // Plain data with string keys: writing it does not fail.
        set(
            DEPENDS_ON,
            serde_json::to_string(new.depends_on).unwrap_or_default(),
        );
    }
    if new.host.supervised {
        set(SUPERVISED, String::new());
    }
    labels
}

/// The text of the label [`CONFIG`].
#[must_use]
pub fn identity(image: &ImageUri, config_json: &str) -> String {
    // A reference may have quotes in it; writing a string does not fail.
    let image = serde_json::to_string(image).unwrap_or_default();
    format!("{{\"format\":{FORMAT},\"image\":{image},\"config\":{config_json}}}")
}

/// Reads the label [`CONFIG`]; `None` when it is not in today's shape.
#[must_use]
pub fn read_identity(text: &str) -> Option<Identity> {
    #[derive(Default)]
    struct Label<'a> {
        format: u32,
        image: Option<ImageUri>,
        config: Option<&'a RawValue>,
    }

    fields!(Label<'de> { format, image, config });

    let label: Label<'_> = crate::base::json::from_str(text).ok()?;
    let (image, config) = (label.image?, label.config?);
    (label.format == FORMAT).then(|| Identity {
        image,
        config: Arc::from(config.get()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        let image = ImageUri::parse("a\"b:1").unwrap();
        let text = identity(&image, r#"{"cgroup":"private"}"#);
        let want = Identity {
            image,
            config: r#"{"cgroup":"private"}"#.into(),
        };
        assert_eq!(read_identity(&text), Some(want));
        for text in ["", "{}", "true", r#"{"format":2,"image":"a","config":{}}"#] {
            assert_eq!(read_identity(text), None, "{text}");
        }
    }
}
