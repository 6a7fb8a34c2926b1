//! Why a container is replaced, in words (FD-37). Pure.

use crate::base::map::Map;
use crate::model::current::Container;
use crate::model::status::ContainerStatus;
use crate::model::target::ServiceTarget;

/// Why a container is replaced (FD-37).
pub(super) fn of(found: &Container, target: &ServiceTarget) -> String {
    match &found.identity {
        None => "it was not made by this agent".to_owned(),
        Some(identity) if !identity.image.same_artifact(&target.image) => {
            format!(
                "its image changes from '{}' to '{}'",
                identity.image, target.image
            )
        }
        Some(identity) if identity.config != target.config => {
            let fields = changed_fields(&identity.config, &target.config);
            format!("its configuration changes in {fields}")
        }
        Some(_) if found.status == ContainerStatus::Dead => "it is dead".to_owned(),
        Some(_) => "its networks or volumes are not those of the target".to_owned(),
    }
}

/// The names of the fields that differ; never their values, which may be secret.
fn changed_fields(old: &str, new: &str) -> String {
    type Fields<'a> = Map<String, &'a serde_json::value::RawValue>;
    let read = |text| crate::base::json::from_str::<Fields<'_>>(text).unwrap_or_default();
    let (old, new) = (read(old), read(new));
    let differs = |name: &&String| {
        old.get(*name).map(|value| value.get()) != new.get(*name).map(|value| value.get())
    };
    let names: crate::base::map::Set<_> = old
        .keys()
        .chain(new.keys())
        .filter(differs)
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        return "its form".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}
