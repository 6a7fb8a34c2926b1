//! What a service requires of the device (target-state 4.5, D-39).

use super::Refusal;
use super::node::{Node, shown};

mod semver;

use semver::{Range, Version};

/// What is known of the device. What is `None` is taken as suitable, with a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `aarch64`, `amd64`, `armv7hf`, `i386`, `rpi`.
    pub arch: Option<String>,
    /// The device type's slug.
    pub device_type: Option<String>,
    /// Name and version of the host OS: `balenaOS 6.4.2+rev1`.
    pub os: Option<String>,
    /// The kernel's release as `uname -r` says it.
    pub kernel: Option<String>,
    /// Instead of the version whose ways this agent has (D-39).
    pub supervisor_version: Option<String>,
}

/// The version of the supervisor whose ways this agent has (D-39).
pub const SUPERVISOR_VERSION: &str = "19.0.5";
/// What the device understands of compositions (D-39).
const SPEC: (&str, &str) = ("compose", "2.0.0");

/// How a requirement compares with the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Unmet,
    Unknown,
    Met,
}

/// Which requirement of a contract is not met, if one is not.
///
/// # Errors
///
/// When the contract is malformed or asks for something of an unknown kind.
pub(super) fn unmet(
    node: Node<'_, '_>,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<Option<Refusal>, Refusal> {
    if node.is_null() {
        return Ok(None);
    }
    let members = node.members()?;
    node.member(&members, "type", |node| node.str().map(drop))?;
    node.member(&members, "slug", |node| node.str().map(drop))?;
    let mut unmet = None;
    node.member(&members, "requires", |node| {
        if node.is_null() {
            return Ok(());
        }
        node.each_element(|node| {
            let (verdict, what) = requirement(node, facts)?;
            match verdict {
                Verdict::Met => {}
                Verdict::Unknown => warnings.push(format!(
                    "{}: cannot tell whether the device has {what}; taken as met",
                    node.path
                )),
                Verdict::Unmet => {
                    unmet.get_or_insert_with(|| {
                        node.refuse(format!(
                            "the contract requires {what}, which this device does not have"
                        ))
                    });
                }
            }
            Ok(())
        })
    })?;
    Ok(unmet)
}

/// Whether a requirement is met, and what it is in words.
fn requirement(node: Node<'_, '_>, facts: &Facts) -> Result<(Verdict, String), Refusal> {
    let members = node.members()?;
    if members.contains_key("or") {
        let mut best = Verdict::Unmet;
        let mut all: Vec<String> = Vec::new();
        node.member(&members, "or", |node| {
            node.each_element(|node| {
                let (verdict, what) = requirement(node, facts)?;
                best = best.max(verdict);
                all.push(what);
                Ok(())
            })
        })?;
        return Ok((best, all.join(" or ")));
    }
    let text = |key: &str| node.member(&members, key, |node| node.str());
    let kind = text("type")?.ok_or_else(|| node.refuse("missing field `type`"))?;
    let slug = text("slug")?;
    let range = text("version")?;
    let offers = offer(&kind, facts).ok_or_else(|| {
        node.refuse(format!(
            "requirement type `{}` is not known here",
            shown(&kind)
        ))
    })?;
    let mut what = kind.to_string();
    let mut verdict = Verdict::Met;
    if let Some(slug) = &slug {
        what = format!("{what} {}", shown(slug));
        verdict = verdict.min(match &offers.slug {
            Some(offered) if offered == slug => Verdict::Met,
            Some(_) => Verdict::Unmet,
            None => Verdict::Unknown,
        });
    }
    if let Some(range) = &range {
        what = format!("{what} {}", shown(range));
        let range = Range::parse(range).ok_or_else(|| {
            node.path
                .key("version")
                .refuse(format!("`{}` is no range of versions", shown(range)))
        })?;
        verdict = verdict.min(match &offers.version {
            Offered::Version(version) if range.contains(version) => Verdict::Met,
            Offered::Version(_) | Offered::Absent => Verdict::Unmet,
            Offered::Unknown => Verdict::Unknown,
        });
    } else if matches!(offers.version, Offered::Absent) {
        verdict = Verdict::Unmet;
    }
    Ok((verdict, what))
}

/// What the device has of one kind.
struct Offer {
    slug: Option<String>,
    version: Offered,
}

enum Offered {
    Version(Version),
    Unknown,
    /// The device does not have such a thing at all.
    Absent,
}

fn offer(kind: &str, facts: &Facts) -> Option<Offer> {
    let version = |text: &str| Version::parse(text).map_or(Offered::Unknown, Offered::Version);
    let known = |text: &Option<String>| text.as_deref().map_or(Offered::Unknown, version);
    let slug_only = |slug: &Option<String>| Offer {
        slug: slug.clone(),
        version: Offered::Unknown,
    };
    Some(match kind {
        "sw.supervisor" => Offer {
            slug: Some("balena-supervisor".to_owned()),
            version: version(
                facts
                    .supervisor_version
                    .as_deref()
                    .unwrap_or(SUPERVISOR_VERSION),
            ),
        },
        "sw.spec" => Offer {
            slug: Some(SPEC.0.to_owned()),
            version: version(SPEC.1),
        },
        "sw.l4t" => Offer {
            slug: None,
            version: match &facts.kernel {
                Some(kernel) => l4t(kernel).map_or(Offered::Absent, |text| version(&text)),
                None => Offered::Unknown,
            },
        },
        "hw.device-type" => slug_only(&facts.device_type),
        "arch.sw" => slug_only(&facts.arch),
        "sw.os" => {
            let (name, number) = os(facts.os.as_deref().unwrap_or_default());
            Offer {
                slug: name,
                version: known(&number),
            }
        }
        "sw.kernel" => Offer {
            slug: Some("linux".to_owned()),
            version: known(&facts.kernel),
        },
        _ => return None,
    })
}

/// Slug and version of `NAME VERSION`.
fn os(text: &str) -> (Option<String>, Option<String>) {
    let (name, version) = match text.rsplit_once(' ') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (text, None),
    };
    let slug = match name {
        "" => None,
        "balenaOS" => Some("balena-os".to_owned()),
        other => Some(other.to_lowercase().replace(' ', "-")),
    };
    (slug, version)
}

/// The version of Linux for Tegra in a kernel's name: `4.9.140-l4t-r32.3.1` has `32.3.1`.
fn l4t(kernel: &str) -> Option<String> {
    let (_, rest) = kernel.split_once("-l4t-r")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::node::Path;
    use super::*;

    fn verdict(contract: &str) -> String {
        let facts = Facts {
            arch: Some("aarch64".to_owned()),
            kernel: Some("4.9.140-l4t-r32.3.1".to_owned()),
            os: Some("balenaOS".to_owned()),
            ..Facts::default()
        };
        let raw = crate::base::json::from_str(contract).unwrap();
        let mut warnings = Vec::new();
        match unmet(Node::new(raw, &Path::Root), &facts, &mut warnings) {
            Ok(None) if warnings.is_empty() => "met".to_owned(),
            Ok(None) => "unknown".to_owned(),
            Ok(Some(_)) => "unmet".to_owned(),
            Err(_) => "bad".to_owned(),
        }
    }

    #[test]
    fn ts_4_5_contracts() {
        #[rustfmt::skip]
        let cases = [
            ("null", "met"), ("{}", "met"), (r#"{"requires":null}"#, "met"), (r#"{"requires":[]}"#, "met"),
            (r#"{"requires":[{"type":"sw.supervisor","version":">=14"}]}"#, "met"),
            (r#"{"requires":[{"type":"sw.supervisor","version":">=20"}]}"#, "unmet"),
            (r#"{"requires":[{"type":"sw.spec","slug":"compose","version":">=2"}]}"#, "met"),
            (r#"{"requires":[{"type":"sw.spec","slug":"compose","version":">=3"}]}"#, "unmet"),
            (r#"{"requires":[{"type":"arch.sw","slug":"aarch64"}]}"#, "met"),
            (r#"{"requires":[{"type":"arch.sw","slug":"amd64"}]}"#, "unmet"),
            (r#"{"requires":[{"type":"hw.device-type","slug":"x"}]}"#, "unknown"),
            (r#"{"requires":[{"type":"sw.l4t","version":">=32.3"}]}"#, "met"),
            (r#"{"requires":[{"type":"sw.l4t","version":"<32"}]}"#, "unmet"),
            (r#"{"requires":[{"type":"sw.kernel","slug":"linux","version":">=4"}]}"#, "met"),
            (r#"{"requires":[{"type":"sw.os","slug":"balena-os","version":">=6"}]}"#, "unknown"),
            (r#"{"requires":[{"type":"sw.os","slug":"other","version":">=6"}]}"#, "unmet"),
            (r#"{"requires":[{"or":[{"type":"arch.sw","slug":"a"},{"type":"arch.sw","slug":"aarch64"}]}]}"#, "met"),
            (r#"{"requires":[{"or":[{"type":"arch.sw","slug":"a"}]}]}"#, "unmet"),
            (r#"{"requires":[{"type":"hw.orchard"}]}"#, "bad"),
            (r#"{"requires":[{"slug":"x"}]}"#, "bad"),
            (r#"{"requires":[{"type":"sw.supervisor","version":"new"}]}"#, "bad"),
            (r#"{"requires":{}}"#, "bad"), ("[]", "bad"), (r#"{"slug":5}"#, "bad"),
        ];
        for (contract, want) in cases {
            assert_eq!(verdict(contract), want, "{contract}");
        }
    }
}
