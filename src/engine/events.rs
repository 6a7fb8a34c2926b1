//! The engine's event stream.

use std::time::Duration;

use super::{Docker, unreachable};
use crate::base::json::{Text, fields};
use crate::base::percent::percent_encode_segment;
use crate::http::client::Response;
use crate::limits;
use crate::world::Pending;
use crate::world::engine::{EngineError, EngineEvent, Events, Kind};

/// What changes a state that we keep. Health checks alone make three more events each
/// time they run, which nobody needs to wake up for.
const WANTED: &str = "{\"type\":[\"container\",\"network\",\"volume\",\"image\"],\"event\":[\
    \"start\",\"restart\",\"die\",\"stop\",\"kill\",\"oom\",\"destroy\",\"remove\",\"rename\",\
    \"pause\",\"unpause\",\"update\",\"health_status\",\"delete\",\"untag\",\
    \"connect\",\"disconnect\"]}";

#[derive(Default)]
struct Line<'a> {
    kind: Text<'a>,
    action: Text<'a>,
    actor: Option<Actor<'a>>,
}

fields!(Line<'de> { "Type" => kind needed, "Action" => action needed, "Actor" => actor needed });

#[derive(Default)]
struct Actor<'a> {
    id: Text<'a>,
    attributes: Attributes<'a>,
}

fields!(Actor<'de> { "ID" => id needed, "Attributes" => attributes });

#[derive(Default)]
struct Attributes<'a> {
    /// Of a network: which container came to it or left it.
    container: Option<Text<'a>>,
}

fields!(Attributes<'de> { container });

impl From<Line<'_>> for EngineEvent {
    fn from(line: Line<'_>) -> EngineEvent {
        let is_tie = matches!(&*line.action, "connect" | "disconnect");
        let actor = line.actor.unwrap_or_default();
        let container = actor.attributes.container.filter(|_| is_tie);
        EngineEvent {
            what: (&*line.kind).into(),
            action: (&*line.action).into(),
            id: (*container.unwrap_or(actor.id)).into(),
        }
    }
}

struct Stream {
    response: Response,
    line: Vec<u8>,
}

/// Nothing may happen for as long as it likes.
const PATIENCE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) async fn open(docker: &Docker) -> Result<Box<dyn Events>, EngineError> {
    let path = format!("/events?filters={}", percent_encode_segment(WANTED));
    let timeouts = Docker::timeouts(limits::ENGINE_CALL_TIMEOUT, PATIENCE);
    let doing = "watch the engine's events";
    let response = docker
        .call_with("GET", &path, None, (&[], Some(timeouts)), doing)
        .await?;
    Ok(Box::new(Stream {
        response,
        line: Vec::new(),
    }))
}

impl Events for Stream {
    fn next(&mut self) -> Pending<'_, Result<EngineEvent, EngineError>> {
        Box::pin(async move {
            let doing = "watch the engine's events";
            loop {
                let read = self
                    .response
                    .line(limits::ENGINE_LINE_BYTES_MAX, &mut self.line)
                    .await;
                if !read.map_err(|err| unreachable(doing, &err))? {
                    return Err(EngineError::new(
                        Kind::Unreachable,
                        doing,
                        "the stream ended",
                    ));
                }
                match serde_json::from_slice::<Line<'_>>(&self.line) {
                    Ok(line) => return Ok(line.into()),
                    Err(_) if self.line.iter().all(u8::is_ascii_whitespace) => {}
                    Err(error) => log::warn!("an event of the engine is passed over: {error}"),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_11_a_tie_to_a_network_is_about_its_container() {
        let rows = [
            (
                r#"{"Type":"network","Action":"disconnect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"x"}}}"#,
                "c1",
            ),
            (
                r#"{"Type":"network","Action":"destroy","Actor":{"ID":"n1","Attributes":{"name":"x"}}}"#,
                "n1",
            ),
            (
                r#"{"Type":"volume","Action":"mount","Actor":{"ID":"v1","Attributes":{"container":"c1"}}}"#,
                "v1",
            ),
            (
                r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1"}}"#,
                "n1",
            ),
        ];
        for (line, want) in rows {
            let event: EngineEvent = crate::base::json::from_str::<Line<'_>>(line)
                .unwrap()
                .into();
            assert_eq!(&*event.id, want, "{line}");
        }
    }
}
