//! Commands in a running container, and what tells one start of it from the next.

use std::time::Duration;

use super::frames::{Frames, Stream};
use super::{Docker, unreachable};
use crate::base::json::fields;
use crate::base::percent::percent_encode_segment;
use crate::http::client::Response;
use crate::limits;
use crate::world::engine::{EngineError, Kind};
use crate::world::takeover::{Output, Start};

#[derive(Default)]
struct Made {
    id: String,
}

fields!(Made { "Id" => id needed });

#[derive(Default)]
struct Ended {
    running: bool,
    exit_code: Option<i64>,
}

fields!(Ended { "Running" => running, "ExitCode" => exit_code });

impl Docker {
    /// Runs a command in a container, without a terminal and with nothing to read, and waits
    /// for its end. `environment` holds `NAME=value`. What is printed beyond
    /// [`limits::EXEC_OUTPUT_BYTES_MAX`] is dropped, each stream by itself.
    ///
    /// Who drops this leaves the command running.
    ///
    /// # Errors
    /// Of kind [`Kind::Conflict`] while the container does not run. That the command fails is
    /// no error.
    pub async fn exec(
        &self,
        container: &str,
        command: &[&str],
        environment: &[String],
    ) -> Result<Output, EngineError> {
        let doing = format!("run a command in container '{container}'");
        let path = format!("/containers/{}/exec", percent_encode_segment(container));
        let body = serde_json::json!({
            "AttachStdout": true, "AttachStderr": true, "Cmd": command, "Env": environment,
        });
        let body = body.to_string();
        let mut response = self
            .call("POST", &path, Some(body.as_bytes()), &doing)
            .await?;
        let Made { id } = self.json(&mut response, &doing).await?;
        let path = format!("/exec/{}/start", percent_encode_segment(&id));
        let start = br#"{"Detach":false,"Tty":false}"#;
        let mut response = self.call("POST", &path, Some(start), &doing).await?;
        let (stdout, stderr) = collect(&mut response, &doing).await?;
        let code = self.exit_code(&id, &doing).await?;
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// The streams may end a little before the engine knows of the end.
    async fn exit_code(&self, id: &str, doing: &str) -> Result<i64, EngineError> {
        let path = format!("/exec/{}/json", percent_encode_segment(id));
        for _ in 0..limits::EXEC_LOOKS_MAX {
            let mut response = self.call("GET", &path, None, doing).await?;
            let ended: Ended = self.json(&mut response, doing).await?;
            if let (false, Some(code)) = (ended.running, ended.exit_code) {
                return Ok(code);
            }
            async_io::Timer::after(limits::EXEC_LOOK).await;
        }
        let said = "it closed its output and goes on";
        Err(EngineError::new(Kind::Failed, doing, said))
    }

    /// The present start of any container, ours or not; `None` when there is no such
    /// container.
    ///
    /// # Errors
    /// When the engine does not answer, or not properly.
    pub async fn start_of(&self, container: &str) -> Result<Option<Start>, EngineError> {
        #[derive(Default)]
        struct Looked {
            id: String,
            state: Option<State>,
        }

        fields!(Looked { "Id" => id needed, "State" => state needed });

        #[derive(Default)]
        struct State {
            started_at: String,
        }

        fields!(State { "StartedAt" => started_at });

        let doing = format!("look at container '{container}'");
        let path = format!("/containers/{}/json", percent_encode_segment(container));
        let mut response = match self.call("GET", &path, None, &doing).await {
            Err(error) if error.kind == Kind::Gone => return Ok(None),
            other => other?,
        };
        let Looked { id, state } = self.json(&mut response, &doing).await?;
        let State { started_at } = state.unwrap_or_default();
        Ok(Some(Start(format!("{id} {started_at}"))))
    }

    /// Stops and starts a container, and waits until it runs; its own grace period holds.
    ///
    /// # Errors
    /// When it is not there, or the engine does not answer within `patience`.
    pub async fn restart(&self, container: &str, patience: Duration) -> Result<(), EngineError> {
        let doing = format!("restart container '{container}'");
        let path = format!("/containers/{}/restart", percent_encode_segment(container));
        let timeouts = Docker::timeouts(patience, limits::ENGINE_CALL_TIMEOUT);
        self.call_with("POST", &path, None, (&[], Some(timeouts)), &doing)
            .await?
            .discard()
            .await;
        Ok(())
    }
}

/// What both streams of a command print, until it ends.
async fn collect(response: &mut Response, doing: &str) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut frames = Frames::default();
    let odd = |said| EngineError::new(Kind::Unreachable, doing, said);
    loop {
        let piece = response.chunk().await;
        let Some(piece) = piece.map_err(|error| unreachable(doing, &error))? else {
            break;
        };
        let fed = frames.feed(piece, |stream, bytes| {
            let into = match stream {
                Stream::Out => &mut stdout,
                Stream::Err => &mut stderr,
            };
            let free = limits::EXEC_OUTPUT_BYTES_MAX.saturating_sub(into.len());
            into.extend_from_slice(bytes.get(..free).unwrap_or(bytes));
        });
        fed.map_err(|_| odd("its output is not as engines send it"))?;
    }
    if !frames.is_complete() {
        return Err(odd("its output is cut short"));
    }
    Ok((stdout, stderr))
}
