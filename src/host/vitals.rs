//! What this machine measures of itself, from `/proc` and `/sys` (remote-api 3.4).
//!
//! Read when somebody asks, which is every five minutes: nothing is held, and no file
//! stays open. What a machine does not have is left out.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use crate::limits;
use crate::world::host::Vitals;

/// Measures.
#[must_use]
pub fn vitals() -> Vitals {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Vitals {
        cpu_ticks: cpu_ticks(&read("/proc/stat")),
        memory: memory(&read("/proc/meminfo")),
        storage: storage(data_mount(&read("/proc/self/mounts"))),
        cpu_temp: cpu_temp(),
        cpu_id: cpu_id(&read("/proc/device-tree/serial-number")).or_else(|| {
            let text = read("/proc/cpuinfo");
            let serial = text.lines().find(|line| line.starts_with("Serial"));
            cpu_id(serial?.split_once(':')?.1)
        }),
        is_undervolted: is_undervolted(),
        mac_address: macs(),
        ip_address: addresses(&read("/proc/net/if_inet6")),
    }
}

/// Ticks that all CPUs worked and ticks in all, since the start of the machine.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; a guest's are in user already.
    let ticks = line.split_ascii_whitespace().take(8).map(str::parse::<u64>);
    let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().ok()?;
    let all = ticks
        .iter()
        .fold(0, |sum: u64, more| sum.saturating_add(*more));
    let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
    Some((all.saturating_sub(idle), all))
}

/// MiB that are used, caches aside, and MiB in all.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| -> Option<u64> {
        let mut lines = meminfo.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_ascii_whitespace().next()?.parse().ok()
    };
    let all = kib("MemTotal")?;
    let free = ["MemFree", "Cached", "Buffers", "SReclaimable"];
    let free = free.iter().filter_map(|name| kib(name)).sum();
    Some((all.saturating_sub(free) >> 10, all >> 10))
}

/// Where the data partition is: what the legacy supervisor takes for it, else what holds
/// this program's own files.
fn data_mount(mounts: &str) -> &str {
    let mount = |line: &'_ str| -> Option<(usize, usize)> {
        let mut words = line.split(' ');
        let (device, place) = (words.next()?, words.next()?);
        let is_it = device.starts_with("/dev/") && place.contains("/data");
        // One with escaped letters is none of the usual places.
        let start = device.len() + 1;
        (is_it && !place.contains('\\')).then_some((start, start + place.len()))
    };
    let found = mounts
        .lines()
        .find_map(|line| mount(line).map(|(from, to)| &line[from..to]));
    found.unwrap_or("/")
}

/// MiB that are used and MiB in all.
fn storage(mount: &str) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(mount).ok()?;
    let mib = |blocks: u64| blocks.saturating_mul(found.f_frsize) >> 20;
    Some((
        mib(found.f_blocks.saturating_sub(found.f_bfree)),
        mib(found.f_blocks),
    ))
}

/// Degrees Celsius of the first zone that is a processor's, else of the first.
fn cpu_temp() -> Option<i64> {
    let mut first = None;
    for zone in 0..limits::THERMAL_ZONES_MAX {
        let place = format!("/sys/class/thermal/thermal_zone{zone}");
        let Ok(kind) = fs::read_to_string(format!("{place}/type")) else {
            break;
        };
        let value = fs::read_to_string(format!("{place}/temp")).ok();
        let value = value.as_deref().and_then(degrees);
        let is_cpu = ["cpu", "pkg", "soc"].iter().any(|word| kind.contains(word));
        if is_cpu && value.is_some() {
            return value;
        }
        first = first.or(value);
    }
    first
}

/// Of thousandths, rounded.
fn degrees(text: &str) -> Option<i64> {
    let thousandths: i64 = text.trim().parse().ok()?;
    Some((thousandths.saturating_add(500)).div_euclid(1000))
}

/// The serial number of the board; what the backend would drop is left out.
fn cpu_id(text: &str) -> Option<String> {
    let id = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let is_good = id.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    (is_good && !id.is_empty()).then(|| id.to_ascii_lowercase())
}

/// Whether a Raspberry Pi says that its supply is too weak.
fn is_undervolted() -> bool {
    let monitors = fs::read_dir("/sys/class/hwmon")
        .into_iter()
        .flatten()
        .flatten();
    monitors.map(|monitor| monitor.path()).any(|place| {
        let says = |file: &str, what: &str| {
            let text = fs::read_to_string(place.join(file));
            text.is_ok_and(|text| text.trim() == what)
        };
        says("name", "rpi_volt") && says("in0_lcrit_alarm", "1")
    })
}

/// Whether an interface is between programs of this machine, or a tunnel of the agent's.
fn is_internal(name: &str) -> bool {
    let numbered = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_bridge = name
        .strip_prefix("br-")
        .is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let fixed = [
        "lo",
        "resin-vpn",
        "resin-dns",
        "supervisor0",
        "balena-redsocks",
        "resin-redsocks",
    ];
    fixed.contains(&name)
        || is_bridge
        || ["tun", "balena", "docker", "rce"].into_iter().any(numbered)
}

/// The hardware addresses, in upper case, space between them.
fn macs() -> String {
    let interfaces = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let mac = |place: std::path::PathBuf| {
        let name = place.file_name()?.to_str()?.to_owned();
        let says = |file: &str| fs::read_to_string(place.join(file)).ok();
        // Ethernet and its kin, and no part of a bridge.
        let is_own = says("type")?.trim() == "1" && !place.join("master").exists();
        let address = hardware_address(&says("address")?)?;
        (is_own && !is_internal(&name)).then_some(address)
    };
    joined(interfaces.filter_map(|entry| mac(entry.path())).collect())
}

/// In upper case; all zeros, as a bridge without members has them, are none.
fn hardware_address(text: &str) -> Option<String> {
    let text = text.trim();
    let is_one = text.bytes().any(|byte| !matches!(byte, b'0' | b':'));
    is_one.then(|| text.to_ascii_uppercase())
}

/// The addresses under which others may reach this machine, those of IPv4 first.
fn addresses(if_inet6: &str) -> String {
    let mut found = Vec::new();
    // Without the answer there is nothing to say about IPv4.
    let _ = ask_ipv4(&mut found);
    let mut text = joined(found);
    for address in ipv6(if_inet6) {
        let space = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{space}{address}");
    }
    text
}

/// Sorted, so that an order that changes is no news.
fn joined(mut words: Vec<String>) -> String {
    words.sort_unstable();
    words.dedup();
    words.join(" ")
}

/// Lines of address, index, prefix length, scope, flags and interface.
fn ipv6(if_inet6: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        let scope = words.nth(2)?;
        // Only those that mean something elsewhere.
        (scope == "00" && !is_internal(words.nth(1)?)).then(|| Ipv6Addr::from(bits))
    };
    let mut found: Vec<_> = if_inet6.lines().filter_map(address).collect();
    found.sort_unstable();
    found
}

/// Asks the kernel for all IPv4 addresses (rtnetlink(7)): the one place that has them
/// with the interface's name.
fn ask_ipv4(found: &mut Vec<String>) -> rustix::io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut question = [0; 24];
    question[..4].copy_from_slice(&24_u32.to_ne_bytes());
    question[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    question[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    question[16] = AF_INET;
    rustix::net::send(&socket, &question, SendFlags::empty())?;
    for _ in 0..limits::NETLINK_ANSWERS_MAX {
        let mut answer = [0; 8192];
        let (bytes, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
        if ipv4(&answer[..bytes], found).is_none() {
            break;
        }
    }
    Ok(())
}

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;

/// Takes the addresses out of a piece of the answer; `None` at its end.
fn ipv4(mut answer: &[u8], found: &mut Vec<String>) -> Option<()> {
    while !answer.is_empty() {
        let (length, kind) = (
            u32::from_ne_bytes(part(answer, 0)?),
            u16::from_ne_bytes(part(answer, 4)?),
        );
        let length = usize::try_from(length).ok()?;
        // The last message, or an error, ends it.
        let mut fields = answer.get(16 + 8..length).filter(|_| kind == RTM_NEWADDR)?;
        let (mut local, mut label) = (None, "");
        while fields.len() >= 4 {
            let size = usize::from(u16::from_ne_bytes(part(fields, 0)?));
            let value = fields.get(4..size)?;
            match u16::from_ne_bytes(part(fields, 2)?) {
                IFA_LOCAL => local = part(value, 0).map(Ipv4Addr::from),
                IFA_LABEL => label = std::str::from_utf8(value).unwrap_or_default(),
                _ => {}
            }
            fields = fields.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        // `eth0:1` is a second name of `eth0`.
        let name = label.split(['\0', ':']).next().unwrap_or_default();
        let local = local.filter(|address| !address.is_loopback() && !is_internal(name));
        found.extend(local.map(|address| address.to_string()));
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(())
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_measures_itself() {
        let vitals = vitals();
        let (busy, all) = vitals.cpu_ticks.unwrap();
        assert!(busy <= all && all > 0);
        for (used, all) in [vitals.memory.unwrap(), vitals.storage.unwrap()] {
            assert!(used <= all && all > 0, "{used} of {all}");
        }
        assert!(
            !vitals.ip_address.contains("127.0.0.1"),
            "{}",
            vitals.ip_address
        );
        assert_eq!(vitals.mac_address, vitals.mac_address.to_ascii_uppercase());
    }

    #[test]
    fn ra_3_4_processor_and_memory() {
        let stat = "cpu  100 5 20 300 40 1 2 3 50 0\ncpu0 1 1 1 1\n";
        assert_eq!(cpu_ticks(stat), Some((131, 471)));
        for bad in ["", "cpu", "cpu  1 2 x 4 5", "cpu  1 2", "intr 1 2 3 4 5"] {
            assert_eq!(cpu_ticks(bad), None, "{bad}");
        }
        let meminfo = "MemTotal:       2048000 kB\nMemFree:         1000000 kB\nBuffers:  24000 kB\n\
                       Cached:           500000 kB\nSwapCached:  7 kB\nSReclaimable:     1000 kB\n";
        assert_eq!(memory(meminfo), Some((523_000 >> 10, 2000)));
        assert_eq!(
            memory("MemTotal: 4 kB\nMemFree: 8 kB"),
            Some((0, 0)),
            "never less than nothing"
        );
        assert_eq!(memory("MemFree: 8 kB"), None);
    }

    #[test]
    fn ra_3_4_the_data_partition() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /data tmpfs rw 0 0\n\
                      /dev/mmcblk0p6 /mnt/my\\040data ext4 rw 0 0\n/dev/mmcblk0p6 /mnt/data ext4 rw 0 0\n";
        assert_eq!(data_mount(mounts), "/mnt/data");
        assert_eq!(data_mount("/dev/vda / ext4 rw 0 0\n"), "/");
    }

    #[test]
    fn ra_3_4_small_things() {
        let rows = [
            ("46499\n", Some(46)),
            ("46500", Some(47)),
            ("-1600", Some(-2)),
            ("", None),
            ("x", None),
        ];
        for (text, want) in rows {
            assert_eq!(degrees(text), want, "{text}");
        }
        let rows = [
            ("10000000ABCDEF01\0", Some("10000000abcdef01")),
            (" : ", Some(":")),
            ("\0", None),
            ("\u{c4}BC", None),
        ];
        for (text, want) in rows {
            assert_eq!(cpu_id(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn ra_3_4_interfaces_that_count() {
        let internal = "lo resin-vpn resin-dns supervisor0 balena-redsocks resin-redsocks tun0 balena0 docker0 rce12 br-0123456789ab";
        assert!(internal.split(' ').all(is_internal));
        let outside = "eth0 wlan0 wwan0 tun balena docker-x br0 br-lan br-0123456789abc enp0s3 lo0";
        assert!(!outside.split(' ').any(is_internal));
    }

    #[test]
    fn r_rep_7_an_interface_without_an_address_has_none() {
        assert_eq!(
            hardware_address("02:fc:00:00:00:01\n").as_deref(),
            Some("02:FC:00:00:00:01")
        );
        for none in ["00:00:00:00:00:00\n", "\n", ""] {
            assert_eq!(hardware_address(none), None, "{none:?}");
        }
    }

    #[test]
    fn ra_3_4_addresses() {
        let text = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n\
                    fd000000000000000000000000000002 04 40 00 82     eth0\n\
                    20010db8000000000000000000000001 04 40 00 82  docker0\nx\n";
        assert_eq!(ipv6(text), ["fd00::2".parse::<Ipv6Addr>().unwrap()]);
        let message = |kind: u16, address: [u8; 4], label: &[u8]| {
            let mut fields = vec![0; 8];
            fields.extend([8, 0, 1, 0, 9, 9, 9, 9]);
            fields.extend([8, 0, 2, 0]);
            fields.extend(address);
            fields.extend([u8::try_from(4 + label.len()).unwrap(), 0, 3, 0]);
            fields.extend(label);
            fields.resize(fields.len().next_multiple_of(4), 0);
            let mut bytes = u32::try_from(16 + fields.len())
                .unwrap()
                .to_ne_bytes()
                .to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(fields);
            bytes
        };
        let answer = [
            message(RTM_NEWADDR, [192, 0, 2, 7], b"eth0:1\0"),
            message(RTM_NEWADDR, [172, 17, 0, 1], b"docker0\0"),
            message(RTM_NEWADDR, [127, 0, 0, 1], b"eth0\0"),
        ]
        .concat();
        let mut found = Vec::new();
        assert_eq!(ipv4(&answer, &mut found), Some(()));
        assert_eq!(found, ["192.0.2.7"]);
        assert_eq!(ipv4(&message(3, [0; 4], b""), &mut found), None, "the end");
        // Whatever is cut or wrong ends it, and nothing more.
        for end in 0..answer.len() {
            let _ = ipv4(&answer[..end], &mut found);
            let mut other = answer.clone();
            other[end] ^= 0xff;
            let _ = ipv4(&other, &mut found);
        }
    }
}
