//! The container that this program runs in, if it runs in one: the agent never acts on itself
//! (FD-41).

use std::sync::Arc;

use super::facts::is_contained;

/// Files that an engine puts into every container from a directory of that container.
const FILES: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The id of the container that this program runs in, or its beginning; `None` on the host.
#[must_use]
pub fn container() -> Option<Arc<str>> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    // An engine that mounts none of the files names the host after the container.
    let name = read("/proc/sys/kernel/hostname");
    let by_name = Some(name.trim()).filter(|name| is_contained() && is_hex(name, 12));
    mounted(&mounts).or(by_name).map(Into::into)
}

/// The id in the path that one of the files comes from, by `/proc/PID/mountinfo`
/// (proc(5)): also right where the container has the host's network, and its name with it.
fn mounted(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (from, to) = (fields.next()?, fields.next()?);
        let mut names = from.rsplit('/').filter(|name| is_hex(name, 64));
        FILES.contains(&to).then(|| names.next())?
    })
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_41_the_own_container_by_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let line = |from: &str, to: &str| {
            format!(
                "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                 601 590 254:0 {from} {to} rw,relatime - ext4 /dev/vda rw\n"
            )
        };
        let docker = format!("/var/lib/docker/containers/{id}/hostname");
        let podman = format!("/containers/storage/overlay-containers/{id}/userdata/hosts");
        let rows = [
            (line(&docker, "/etc/hostname"), Some(&*id)),
            (line(&podman, "/etc/hosts"), Some(&*id)),
            // Another container's, mounted for some purpose.
            (line(&docker, "/mnt/hostname"), None),
            (line("/etc/hostname", "/etc/hostname"), None),
            (String::new(), None),
        ];
        for (mounts, want) in rows {
            assert_eq!(mounted(&mounts), want, "{mounts}");
        }
    }
}
