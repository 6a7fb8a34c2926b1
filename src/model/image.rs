//! Image references (target-state 1.7, remote-api 4.7, R-REG-AUTH-7).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A checked image reference in normalised form: `repo@digest`, else `repo:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageUri(Arc<str>);

/// Why a text is no image reference. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageError(&'static str);

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ImageError {}

/// The longest repository, registry included (R-REG-AUTH-7).
const NAME_CHARS_MAX: usize = 255;
/// The longest tag (R-REG-AUTH-7).
const TAG_CHARS_MAX: usize = 128;
/// A digest has at least so many hex digits (remote-api 4.7).
const DIGEST_DIGITS_MIN: usize = 32;

impl ImageUri {
    /// Reads `[registry/]repository[:tag][@digest]`.
    ///
    /// # Errors
    ///
    /// When the text does not have that form.
    pub fn parse(text: &str) -> Result<ImageUri, ImageError> {
        if text.is_empty() {
            return Err(ImageError("the image reference is empty"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ImageError("an image reference has no blanks"));
        }
        if text.contains("://") {
            return Err(ImageError("an image reference has no scheme"));
        }
        if text.starts_with(['/', ':', '@']) {
            return Err(ImageError("an image reference starts with a name"));
        }
        let name_start = registry_len(text).map_or(0, |len| len + 1);
        let (before, digest) = match text[name_start..].find('@') {
            Some(at) => {
                let at = name_start + at;
                (&text[..at], Some(&text[at + 1..]))
            }
            None => (text, None),
        };
        let (repository, tag) = match before[name_start..].find(':') {
            Some(colon) => {
                let colon = name_start + colon;
                (&before[..colon], Some(&before[colon + 1..]))
            }
            None => (before, None),
        };
        check_repository(repository, name_start)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        Ok(ImageUri(match digest {
            Some(digest) => {
                check_digest(digest)?;
                format!("{repository}@{digest}").into()
            }
            None => format!("{repository}:{}", tag.unwrap_or("latest")).into(),
        }))
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before tag and digest, with its registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.0[..self.repository_len()]
    }

    /// The registry, if the reference names one.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        registry_len(self.repository()).map(|len| &self.0[..len])
    }

    /// The tag, `latest` when the text had none; `None` beside a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.behind(b':')
    }

    /// `sha256:...`, if the reference has one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.behind(b'@')
    }

    /// Whether both name the same bytes: equal normalised text, or equal digests.
    #[must_use]
    pub fn same_artifact(&self, other: &ImageUri) -> bool {
        self == other || (self.digest().is_some() && self.digest() == other.digest())
    }

    /// What stands behind the repository, if it is joined by `joint`.
    fn behind(&self, joint: u8) -> Option<&str> {
        let len = self.repository_len();
        (self.0.as_bytes().get(len) == Some(&joint)).then(|| &self.0[len + 1..])
    }

    fn repository_len(&self) -> usize {
        let name_start = registry_len(&self.0).map_or(0, |len| len + 1);
        self.0[name_start..]
            .find(['@', ':'])
            .map_or(self.0.len(), |at| name_start + at)
    }
}

/// The length of the shortest prefix before a `/` that is a registry.
fn registry_len(text: &str) -> Option<usize> {
    let mut end = 0;
    for part in text.split_inclusive('/') {
        let part = part.strip_suffix('/')?;
        end += part.len();
        if text[..end] == *"localhost" || part.contains(['.', ':']) {
            return Some(end);
        }
        end += 1;
    }
    None
}

fn check_repository(repository: &str, name_start: usize) -> Result<(), ImageError> {
    let name = &repository[name_start..];
    if name.is_empty() || name.starts_with('/') {
        return Err(ImageError("the image reference has no name"));
    }
    if name == "<none>" {
        return Err(ImageError("`<none>` is no image"));
    }
    if repository.len() > NAME_CHARS_MAX {
        return Err(ImageError("the name of the image is too long"));
    }
    if repository.contains('@') {
        return Err(ImageError("the registry of the image has an `@`"));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), ImageError> {
    if tag.is_empty() {
        return Err(ImageError("the tag of the image is empty"));
    }
    if tag == "<none>" {
        return Err(ImageError("`<none>` is no tag"));
    }
    if tag.len() > TAG_CHARS_MAX {
        return Err(ImageError("the tag of the image is too long"));
    }
    if tag.contains([':', '/']) {
        return Err(ImageError("the tag of the image has a `:` or `/`"));
    }
    Ok(())
}

fn check_digest(digest: &str) -> Result<(), ImageError> {
    const BAD: ImageError = ImageError("the digest of the image is malformed");
    let (algorithm, hex) = digest.split_once(':').ok_or(BAD)?;
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let good = algorithm.split(['-', '_', '+', '.']).all(word)
        && hex.len() >= DIGEST_DIGITS_MIN
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(()) } else { Err(BAD) }
}

impl fmt::Display for ImageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageUri {
    type Error = ImageError;
    fn try_from(text: String) -> Result<ImageUri, ImageError> {
        ImageUri::parse(&text)
    }
}

impl From<ImageUri> for String {
    fn from(uri: ImageUri) -> String {
        uri.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c";

    /// Table of remote-api 4.7: input, registry, repository, tag, normalised (`H` is the digest).
    #[test]
    fn ra_4_7_s_img_01_references() {
        #[rustfmt::skip]
        let cases = [
            ("ubuntu", None, "ubuntu", "latest"),
            ("ubuntu:latest", None, "ubuntu", "latest"),
            ("library/ubuntu", None, "library/ubuntu", "latest"),
            ("docker.io/library/ubuntu:1", Some("docker.io"), "docker.io/library/ubuntu", "1"),
            ("localhost/foo", Some("localhost"), "localhost/foo", "latest"),
            ("localhost:5000/foo:1", Some("localhost:5000"), "localhost:5000/foo", "1"),
            ("reg.io/a:1@sha256:H", Some("reg.io"), "reg.io/a", "@sha256:H"),
            ("a@sha256:H", None, "a", "@sha256:H"),
            ("a@sha256+b64u:H", None, "a", "@sha256+b64u:H"),
            ("[::1]:5000/img:1", Some("[::1]:5000"), "[::1]:5000/img", "1"),
            ("foo.bar", None, "foo.bar", "latest"),
            ("foo:1/2", Some("foo:1"), "foo:1/2", "latest"),
            ("a/b.c/d", Some("a/b.c"), "a/b.c/d", "latest"),
        ];
        for (text, registry, repository, end) in cases {
            let uri = ImageUri::parse(&text.replace('H', HEX)).unwrap();
            let end = end.replace('H', HEX);
            assert_eq!(uri.registry(), registry, "{text}");
            assert_eq!(uri.repository(), repository, "{text}");
            match end.strip_prefix('@') {
                Some(digest) => {
                    assert_eq!((uri.tag(), uri.digest()), (None, Some(digest)), "{text}");
                    assert_eq!(uri.as_str(), format!("{repository}@{digest}"));
                }
                None => {
                    assert_eq!((uri.tag(), uri.digest()), (Some(&*end), None), "{text}");
                    assert_eq!(uri.as_str(), format!("{repository}:{end}"));
                }
            }
            // Normalised text reads as itself.
            assert_eq!(ImageUri::parse(uri.as_str()), Ok(uri));
        }
    }

    #[test]
    fn ra_reg_auth_7_refusals() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        #[rustfmt::skip]
        let cases = [
            "", " ", "a b", "a\n", "img:", "http://reg.io/x:1", ":tag", "/a", "img@", "a@b/c",
            "<none>", "a:<none>", "<none>:<none>", "a:1:2", "reg.io/", "reg.io//x", "reg.io/:1",
            &long, &tag,
            "a@sha256:3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8", "a@sha256:--------------------------------",
            "@sha256:3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c", "a@9sha:3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c",
        ];
        for text in cases {
            assert!(ImageUri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn s_img_02_no_text_makes_it_panic_and_what_is_taken_reads_as_itself() {
        const PARTS: &[&str] = &[
            "a",
            "Z",
            "0",
            "_",
            "-",
            ".",
            "/",
            ":",
            "@",
            "+",
            "[",
            "]",
            "<none>",
            " ",
            "\n",
            "\0",
            "sha256:",
            "latest",
            "localhost",
            HEX,
            "\u{e9}",
            "\u{1f600}",
        ];
        let mut random = fastrand::Rng::with_seed(2);
        let mut taken = 0;
        for _ in 0..100_000 {
            let text: String = (0..random.usize(0..9))
                .map(|_| PARTS[random.usize(0..PARTS.len())])
                .collect();
            if let Ok(uri) = ImageUri::parse(&text) {
                taken += 1;
                assert_eq!(ImageUri::parse(uri.as_str()).as_ref(), Ok(&uri), "{text:?}");
                assert!(uri.repository().len() <= text.len(), "{text:?}");
            }
        }
        assert!(taken > 1000, "{taken}");
        for unit in ["a", "a/", "a.b/", ":", "@", "[", "sha256:"] {
            let _ = ImageUri::parse(&unit.repeat(1 << 20));
        }
    }

    #[test]
    fn same_digest_is_the_same_artifact() {
        let of = |text: &str| ImageUri::parse(&text.replace('H', HEX)).unwrap();
        assert!(of("a").same_artifact(&of("a:latest")));
        assert!(of("r.io/a:1@sha256:H").same_artifact(&of("b@sha256:H")));
        assert!(!of("a:1").same_artifact(&of("b:1")));
        assert!(!of("a:1").same_artifact(&of("a@sha256:H")));
    }
}
