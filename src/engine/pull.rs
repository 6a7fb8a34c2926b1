//! Progress lines of a pull to percents of the whole. Pure (R-REG-AUTH-5).

use crate::base::json::{Text, fields};
use crate::base::map::Map;

/// All layers of one pull.
#[derive(Debug, Default)]
pub(super) struct Progress {
    layers: Map<String, Layer>,
    /// Never falls, however the sizes become known.
    percent: u8,
}

#[derive(Debug, Default)]
struct Layer {
    /// Bytes, 0 until known.
    size: u64,
    fetched: u64,
    unpacked: u64,
    is_done: bool,
}

#[derive(Default)]
struct Line<'a> {
    status: Option<Text<'a>>,
    id: Option<Text<'a>>,
    progress_detail: Option<Detail>,
    error: Option<Text<'a>>,
    error_detail: Option<ErrorDetail<'a>>,
}

fields!(Line<'de> {
    "status" => status, "id" => id, "progressDetail" => progress_detail, "error" => error,
    "errorDetail" => error_detail,
});

#[derive(Default)]
struct Detail {
    current: Option<i64>,
    total: Option<i64>,
}

fields!(Detail { current, total });

#[derive(Default)]
struct ErrorDetail<'a> {
    message: Option<Text<'a>>,
}

fields!(ErrorDetail<'de> { message });

/// Layers that are kept apart; an image has some dozens.
const LAYERS_MAX: usize = 512;

impl Progress {
    /// Takes one line; answers how far the whole is, 0 to 99.
    ///
    /// # Errors
    /// What the engine said went wrong.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<u8, String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(self.percent);
        }
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|err| format!("odd progress line: {err}"))?;
        let detail = line.error_detail.and_then(|detail| detail.message);
        if let Some(error) = detail.or(line.error) {
            return Err(error.0.into_owned());
        }
        if let (Some(id), Some(status)) = (line.id, line.status) {
            self.layer(&id, &status, line.progress_detail.as_ref());
        }
        Ok(self.percent)
    }

    fn layer(&mut self, id: &str, status: &str, detail: Option<&Detail>) {
        if self.layers.len() >= LAYERS_MAX && !self.layers.contains_key(id) {
            return;
        }
        let known = matches!(
            status,
            "Pulling fs layer"
                | "Waiting"
                | "Downloading"
                | "Verifying Checksum"
                | "Download complete"
                | "Extracting"
                | "Pull complete"
                | "Already exists"
        );
        if !known {
            // "Pulling from ..." has the tag for an id.
            return;
        }
        let layer = self.layers.or_default(id.to_owned());
        let positive = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
        let current = detail
            .and_then(|detail| positive(detail.current))
            .unwrap_or(0);
        if let Some(total) = detail
            .and_then(|detail| positive(detail.total))
            .filter(|n| *n > 0)
        {
            layer.size = total;
        }
        match status {
            "Downloading" => layer.fetched = current.min(layer.size),
            "Verifying Checksum" | "Download complete" => layer.fetched = layer.size,
            "Extracting" => {
                layer.fetched = layer.size;
                layer.unpacked = current.min(layer.size);
            }
            "Pull complete" | "Already exists" => layer.is_done = true,
            _ => {}
        }
        self.percent = self.percent.max(self.sum());
    }

    /// A layer whose size is not known counts as much as the average one.
    fn sum(&self) -> u8 {
        let sizes = self
            .layers
            .values()
            .map(|layer| layer.size)
            .filter(|size| *size > 0);
        let (known, total) = sizes.fold((0_u64, 0_u64), |(n, sum), size| {
            (n + 1, sum.saturating_add(size))
        });
        let average = total.checked_div(known).unwrap_or(1).max(1);
        let (mut done, mut all) = (0_u128, 0_u128);
        for layer in self.layers.values() {
            let size = if layer.size > 0 { layer.size } else { average };
            all += 2 * u128::from(size);
            done += if layer.is_done {
                2 * u128::from(size)
            } else {
                u128::from(layer.fetched) + u128::from(layer.unpacked)
            };
        }
        let percent = (done * 100).checked_div(all).unwrap_or(0).min(99);
        u8::try_from(percent).unwrap_or(99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lines: &[&str]) -> Vec<Result<u8, String>> {
        let mut progress = Progress::default();
        lines
            .iter()
            .map(|line| progress.line(line.as_bytes()))
            .collect()
    }

    #[test]
    fn s_img_06_layers_are_weighted_by_size_and_never_go_back() {
        let got = run(&[
            r#"{"status":"Pulling from x","id":"latest"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":50,"total":100},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":0,"total":900},"id":"b"}"#,
            r#"{"status":"Pull complete","progressDetail":{},"id":"b"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":100,"total":100},"id":"a"}"#,
            r#"{"status":"Digest: sha256:abc"}"#,
        ]);
        let got: Vec<u8> = got.into_iter().map(Result::unwrap).collect();
        assert_eq!(got, [0, 0, 25, 25, 92, 99, 99]);
    }

    #[test]
    fn issue_9_layers_of_more_than_32_bits() {
        let got = run(&[
            r#"{"status":"Downloading","progressDetail":{"current":4294967296,"total":8589934592},"id":"a"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":4294967296,"total":8589934592},"id":"a"}"#,
        ]);
        assert_eq!(got, [Ok(25), Ok(75)]);
    }

    #[test]
    fn s_img_06_odd_numbers_do_no_harm() {
        let got = run(&[
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":0},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":-5,"total":-1},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":9223372036854775807,"total":1},"id":"a"}"#,
            "  ",
        ]);
        assert!(got.iter().all(Result::is_ok));
    }

    #[test]
    fn s_img_07_errors_are_found_in_both_forms() {
        assert_eq!(
            run(&[r#"{"error":"no such thing"}"#]),
            [Err("no such thing".to_owned())]
        );
        let both = r#"{"errorDetail":{"message":"denied"},"error":"x"}"#;
        assert_eq!(run(&[both]), [Err("denied".to_owned())]);
        assert!(run(&["nonsense"])[0].is_err());
        assert!(run(&[r#"{"status":"Downloading","progr"#])[0].is_err());
    }
}
