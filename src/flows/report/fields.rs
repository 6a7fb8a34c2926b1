//! The parts of a report, and which of them are news (remote-api 3.2, 3.4). Pure.

use crate::base::hash;
use crate::world::host::Vitals;

/// Every key of a device that this agent reports. The order is that of
/// [`Field::at`]; the names are in the stored record of what was reported.
pub const NAMES: [&str; 16] = [
    "apps",
    "os_version",
    "os_variant",
    "supervisor_version",
    "api_port",
    "api_secret",
    "mac_address",
    "ip_address",
    "is_undervolted",
    "cpu_usage",
    "cpu_temp",
    "cpu_id",
    "memory_usage",
    "memory_total",
    "storage_usage",
    "storage_total",
];

/// What was reported of each field: its [`Field::mark`].
pub type Marks = [Option<i64>; NAMES.len()];

/// Where the apps are.
pub const APPS: usize = 0;
/// Stands for a value that was taken back.
const NOTHING: i64 = i64::MIN;

/// One key of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Index of its name.
    pub at: usize,
    /// The value.
    pub json: Vec<u8>,
    /// The value as a number, or the beginning of its hash: a text may be a secret.
    pub mark: i64,
    /// A number is news when it moved so far; 0: when it is another one.
    pub step: u64,
}

/// What stays the same as long as the agent runs.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// `balenaOS 6.1.4`.
    pub os_version: Option<String>,
    /// `dev` or `prod`.
    pub os_variant: Option<String>,
    /// The local API, as it can be reached from outside.
    pub api: LocalApi,
}

/// The local API, to a backend that calls it through the VPN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LocalApi {
    /// It is not for this agent to say.
    #[default]
    Unsaid,
    /// Nobody gets in from outside.
    Closed,
    /// On this port, with this key.
    Open(u16, Option<String>),
}

impl Field {
    /// The apps, as one unit (R-REP-3).
    #[must_use]
    pub fn apps(json: Vec<u8>) -> Field {
        let mark = hash::short(&json).cast_signed();
        let (at, step) = (APPS, 0);
        Field {
            at,
            json,
            mark,
            step,
        }
    }

    /// Whether it is part of the same report over and over, as a measured number is.
    #[must_use]
    pub const fn is_metric(&self) -> bool {
        self.step > 1
    }

    /// Whether it is not what was reported.
    #[must_use]
    pub fn is_news(&self, sent: &Marks) -> bool {
        match sent[self.at] {
            None => true,
            Some(NOTHING) => self.mark != NOTHING,
            Some(sent) if self.step == 0 => sent != self.mark,
            Some(sent) => sent.abs_diff(self.mark) >= self.step,
        }
    }
}

/// The fields of the device itself. `before` are the processor's ticks at the last
/// measurement. Without `metrics` they are taken back once (3.4).
#[must_use]
pub fn fields(own: &Own, vitals: &Vitals, before: Option<(u64, u64)>, metrics: bool) -> Vec<Field> {
    let mut list = List(Vec::with_capacity(NAMES.len()));
    // The limits are those of 3.2, in the backend's order of checks (R-REP-7).
    list.text("os_version", own.os_version.as_deref(), 70);
    list.text("os_variant", own.os_variant.as_deref(), 20);
    list.text(
        "supervisor_version",
        Some(crate::intake::SUPERVISOR_VERSION),
        20,
    );
    match &own.api {
        LocalApi::Unsaid => {}
        // A key that opens nothing any more is taken back. A port cannot be: `null` there spoils
        // the whole report (3.2), and without the key it leads nowhere.
        LocalApi::Closed => list.nothing("api_secret"),
        LocalApi::Open(port, secret) => {
            list.number("api_port", Some(i64::from(*port)), 1);
            list.text("api_secret", secret.as_deref(), 64);
        }
    }
    list.text("mac_address", words(&vitals.mac_address, 900), 900);
    list.text("ip_address", words(&vitals.ip_address, 2000), 2000);
    list.add(
        "is_undervolted",
        vitals.is_undervolted.to_string(),
        i64::from(vitals.is_undervolted),
        0,
    );
    if !metrics {
        for name in [
            "cpu_usage",
            "cpu_temp",
            "cpu_id",
            "memory_usage",
            "memory_total",
            "storage_usage",
            "storage_total",
        ] {
            list.nothing(name);
        }
        return list.0;
    }
    let usage = vitals
        .cpu_ticks
        .zip(before)
        .and_then(|(now, before)| percent(now, before));
    list.number("cpu_usage", usage, 20);
    list.number("cpu_temp", vitals.cpu_temp, 5);
    list.text("cpu_id", vitals.cpu_id.as_deref(), 255);
    for (used, all, found) in [
        ("memory_usage", "memory_total", vitals.memory),
        ("storage_usage", "storage_total", vitals.storage),
    ] {
        let Some((use_mib, all_mib)) = found else {
            continue;
        };
        // The backend clamps there.
        let number = |mib: u64| Some(i64::from(i32::try_from(mib).unwrap_or(i32::MAX)));
        // Ten MiB, as the legacy supervisor has it, is noise on a large device (FD-38).
        list.number(used, number(use_mib), (all_mib / 50).max(10));
        list.number(all, number(all_mib), 1);
    }
    list.0
}

struct List(Vec<Field>);

impl List {
    fn add(&mut self, name: &str, json: String, mark: i64, step: u64) {
        let at = NAMES.iter().position(|known| *known == name);
        let json = json.into_bytes();
        self.0.extend(at.map(|at| Field {
            at,
            json,
            mark,
            step,
        }));
    }

    /// Takes back what was said before.
    fn nothing(&mut self, name: &str) {
        self.add(name, "null".to_owned(), NOTHING, 0);
    }

    fn number(&mut self, name: &str, value: Option<i64>, step: u64) {
        if let Some(value) = value {
            self.add(name, value.to_string(), value, step);
        }
    }

    /// An absent and an empty text are left out: `null` is refused for some (0.7 row 7).
    fn text(&mut self, name: &str, value: Option<&str>, max: usize) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return;
        };
        let end = value
            .char_indices()
            .nth(max)
            .map_or(value.len(), |(at, _)| at);
        let mut json = Vec::new();
        // Text never fails to be written.
        if serde_json::to_writer(&mut json, &value[..end]).is_ok() {
            let mark = hash::short(&json).cast_signed();
            let json = String::from_utf8(json).unwrap_or_default();
            self.add(name, json, mark, 0);
        }
    }
}

/// As many whole words as fit.
fn words(text: &str, max: usize) -> Option<&str> {
    match text.get(..=max) {
        None => Some(text),
        Some(start) => start.rsplit_once(' ').map(|(start, _)| start),
    }
}

fn percent((busy, all): (u64, u64), before: (u64, u64)) -> Option<i64> {
    let (busy, all) = (busy.checked_sub(before.0)?, all.checked_sub(before.1)?);
    let percent = (busy.saturating_mul(100) + all / 2).checked_div(all)?;
    i64::try_from(percent.min(100)).ok()
}

/// The report's body.
#[must_use]
pub fn body(uuid: &str, fields: &[Field]) -> Vec<u8> {
    let mut body = Vec::with_capacity(
        fields
            .iter()
            .map(|field| field.json.len() + 32)
            .sum::<usize>()
            + 80,
    );
    body.push(b'{');
    let _ = serde_json::to_writer(&mut body, uuid);
    for (position, field) in fields.iter().enumerate() {
        body.extend(if position == 0 { &b":{\""[..] } else { b",\"" });
        body.extend(NAMES[field.at].as_bytes());
        body.extend(b"\":");
        body.extend(&field.json);
    }
    body.extend(b"}}");
    body
}

/// What was reported, and the releases that the backend knows, as a stored document: a word
/// and a value a line, the last one a sum over the others. `whom` are device and backend.
#[must_use]
pub fn record<'r>(whom: u64, sent: &Marks, releases: impl Iterator<Item = &'r str>) -> String {
    let mut text = format!("{FORM} {whom}\n");
    let mut line = |name: &str, value: &str| {
        for part in [name, " ", value, "\n"] {
            text.push_str(part);
        }
    };
    for (name, mark) in NAMES.iter().zip(sent) {
        if let Some(mark) = mark {
            line(name, &mark.to_string());
        }
    }
    for release in releases {
        line("release", release);
    }
    let sum = hash::short(text.as_bytes());
    text + "sum " + &sum.to_string() + "\n"
}

/// The first word of a stored document; another one is of another version of the agent.
const FORM: &str = "whom";

/// The same the other way; a document for somebody else says nothing.
///
/// # Errors
/// Why it is none: after that all is reported once more (FD-32).
pub fn recorded(record: &[u8], whom: u64) -> Result<(Marks, Vec<&str>), &'static str> {
    let text = std::str::from_utf8(record).map_err(|_| "it is no text")?;
    let (form, _) = text.split_once(' ').ok_or("it is empty or cut off")?;
    if form != FORM {
        return Err("it is of another version, or noise");
    }
    let (text, sum) = text.rsplit_once("sum ").ok_or("it is cut off")?;
    if sum.strip_suffix('\n') != Some(&*hash::short(text.as_bytes()).to_string()) {
        return Err("its sum is wrong");
    }
    let (mut sent, mut releases) = (Marks::default(), Vec::new());
    let mut lines = text
        .lines()
        .map(|line| line.split_once(' ').unwrap_or_default());
    if lines.next() != Some((FORM, &whom.to_string())) {
        return Ok((sent, releases));
    }
    for (name, value) in lines {
        if name == "release" {
            releases.push(value);
        } else if let Some(at) = NAMES.iter().position(|known| *known == name) {
            sent[at] = value.parse().ok();
        }
    }
    Ok((sent, releases))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals() -> Vitals {
        Vitals {
            cpu_ticks: Some((150, 1100)),
            memory: Some((400, 1000)),
            storage: Some((5000, 20_000)),
            cpu_temp: Some(47),
            cpu_id: Some("10000000abcdef01".into()),
            is_undervolted: false,
            mac_address: "02:00:00:00:00:01".into(),
            ip_address: "192.0.2.7 fd00::2".into(),
        }
    }

    fn own() -> Own {
        Own {
            os_version: Some("balenaOS 6.5.39".into()),
            os_variant: Some("prod".into()),
            api: LocalApi::Open(48484, Some("secret".into())),
        }
    }

    fn shown(fields: &[Field]) -> serde_json::Value {
        serde_json::from_slice(&body("u", fields)).unwrap()
    }

    #[test]
    fn ra_3_4_all_fields() {
        let found = shown(&fields(&own(), &vitals(), Some((100, 600)), true));
        let want = serde_json::json!({"u": {
            "os_version": "balenaOS 6.5.39", "os_variant": "prod", "supervisor_version": "19.0.5",
            "api_port": 48484, "api_secret": "secret", "mac_address": "02:00:00:00:00:01",
            "ip_address": "192.0.2.7 fd00::2", "is_undervolted": false, "cpu_usage": 10,
            "cpu_temp": 47, "cpu_id": "10000000abcdef01", "memory_usage": 400, "memory_total": 1000,
            "storage_usage": 5000, "storage_total": 20_000}});
        assert_eq!(found, want);
        let nothing = shown(&fields(&Own::default(), &Vitals::default(), None, true));
        let want =
            serde_json::json!({"u": {"supervisor_version": "19.0.5", "is_undervolted": false}});
        assert_eq!(
            nothing, want,
            "what is not known is left out, never null (0.7 row 7)"
        );
    }

    #[test]
    fn ra_3_4_metrics_that_are_off_are_taken_back_once() {
        let mut sent = Marks::default();
        let news = |fields: Vec<Field>, sent: &mut Marks| -> Vec<&str> {
            let mut fields = fields;
            fields.retain(|field| field.is_news(sent));
            fields
                .iter()
                .for_each(|field| sent[field.at] = Some(field.mark));
            fields.iter().map(|field| NAMES[field.at]).collect()
        };
        news(fields(&own(), &vitals(), Some((0, 0)), true), &mut sent);
        let off = fields(&own(), &vitals(), None, false);
        assert!(off.iter().filter(|field| field.json == b"null").count() == 7);
        assert_eq!(news(off.clone(), &mut sent).len(), 7);
        assert_eq!(news(off, &mut sent), [""; 0]);
        let on = news(fields(&own(), &vitals(), Some((0, 0)), true), &mut sent);
        assert_eq!(on.len(), 7, "{on:?}");
    }

    #[test]
    fn fd_38_small_moves_are_no_news() {
        let mut sent = Marks::default();
        for field in fields(&own(), &vitals(), Some((100, 600)), true) {
            sent[field.at] = Some(field.mark);
        }
        let news = |change: &dyn Fn(&mut Vitals), ticks: (u64, u64)| -> Vec<&str> {
            let mut vitals = vitals();
            change(&mut vitals);
            let found = fields(&own(), &vitals, Some(ticks), true);
            let news = found.iter().filter(|field| field.is_news(&sent));
            news.map(|field| NAMES[field.at]).collect()
        };
        let same = (100, 600);
        assert_eq!(news(&|_| {}, same), [""; 0]);
        assert_eq!(news(&|vitals| vitals.cpu_temp = Some(51), same), [""; 0]);
        assert_eq!(
            news(&|vitals| vitals.cpu_temp = Some(42), same),
            ["cpu_temp"]
        );
        assert_eq!(
            news(&|vitals| vitals.memory = Some((419, 1000)), same),
            [""; 0]
        );
        assert_eq!(
            news(&|vitals| vitals.memory = Some((420, 1000)), same),
            ["memory_usage"]
        );
        assert_eq!(
            news(&|vitals| vitals.storage = Some((4601, 20_000)), same),
            [""; 0]
        );
        assert_eq!(
            news(&|vitals| vitals.storage = Some((4600, 20_000)), same),
            ["storage_usage"]
        );
        assert_eq!(news(&|_| {}, (101, 1000)), ["cpu_usage"], "49 % after 10 %");
        assert_eq!(
            news(&|vitals| vitals.is_undervolted = true, same),
            ["is_undervolted"]
        );
        assert_eq!(
            news(&|vitals| vitals.ip_address.clear(), same),
            [""; 0],
            "nothing is no news"
        );
    }

    #[test]
    fn r_rep_7_limits_and_whole_words() {
        let long = "192.0.2.10 ".repeat(300);
        let vitals = Vitals {
            ip_address: long.trim().to_owned(),
            mac_address: "x".repeat(901),
            ..Vitals::default()
        };
        let own = Own {
            os_version: Some("\u{fc}".repeat(99)),
            ..Own::default()
        };
        let found = shown(&fields(&own, &vitals, None, true));
        let ip = found["u"]["ip_address"].as_str().unwrap();
        assert!(
            ip.len() <= 2000 && ip.ends_with(".10") && ip.len() > 1980,
            "{}",
            ip.len()
        );
        assert_eq!(found["u"]["mac_address"], serde_json::Value::Null);
        assert_eq!(
            found["u"]["os_version"].as_str().unwrap().chars().count(),
            70
        );
        assert_eq!(percent((5, 5), (6, 5)), None, "a clock that went back");
        assert_eq!(percent((5, 5), (5, 5)), None);
    }

    #[test]
    fn r_rep_4_the_record() {
        let mut sent = Marks::default();
        (sent[0], sent[9], sent[15]) = (Some(-5), Some(40), Some(NOTHING));
        let text = record(7, &sent, ["aa11", "bb22"].into_iter());
        let found = recorded(text.as_bytes(), 7);
        assert_eq!(found, Ok((sent, vec!["aa11", "bb22"])));
        let nothing = (Marks::default(), Vec::new());
        assert_eq!(
            recorded(text.as_bytes(), 8),
            Ok(nothing),
            "another device or backend"
        );
    }

    #[test]
    fn fd_32_a_damaged_record_is_known_as_such_wherever_it_is_cut() {
        let mut sent = Marks::default();
        (sent[0], sent[9]) = (Some(-5), Some(40));
        let text = record(7, &sent, ["aa11", "bb22"].into_iter());
        for end in 0..text.len() {
            assert!(recorded(&text.as_bytes()[..end], 7).is_err(), "at {end}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(recorded(&bytes, 7).is_err(), "at {at}");
        }
        for noise in [
            &b""[..],
            b"123",
            b"\xff\xfe",
            b"whom",
            b"whom 7 ",
            b"sum 5\n",
        ] {
            assert!(recorded(noise, 7).is_err(), "{noise:?}");
        }
        let later = text.replace("whom", "form-2");
        let why = recorded(later.as_bytes(), 7).unwrap_err();
        assert!(why.contains("another version"), "{why}");
    }

    #[test]
    fn ra_3_4_a_key_that_opens_nothing_any_more_is_taken_back_once() {
        let mut sent = Marks::default();
        let mut news = |api: LocalApi| -> Vec<(&str, String)> {
            let mut found = fields(&Own { api, ..own() }, &vitals(), None, true);
            found.retain(|field| field.is_news(&sent) && NAMES[field.at].starts_with("api_"));
            let told = |field: &Field| {
                sent[field.at] = Some(field.mark);
                let json = String::from_utf8(field.json.clone()).unwrap();
                (NAMES[field.at], json)
            };
            found.iter().map(told).collect()
        };
        let open = || LocalApi::Open(48484, Some("secret".into()));
        assert_eq!(news(open()).len(), 2);
        let gone = vec![("api_secret", "null".to_owned())];
        assert_eq!(news(LocalApi::Closed), gone, "a port cannot be null");
        assert_eq!(news(LocalApi::Closed), []);
        assert_eq!(news(open()), [("api_secret", "\"secret\"".to_owned())]);
        assert_eq!(news(LocalApi::Unsaid), []);
    }
}
