//! What is being pulled: each image once at a time, never too many, and to its end (FD-12).

use helios::model::ImageUri;
use helios::plan::sweep;

use super::life::PULLS_MAX;
use super::world::World;

/// A pull that is under way.
pub struct Pulling<'w> {
    world: &'w World,
    uri: &'w ImageUri,
    /// The engine has said how it ended.
    pub is_over: bool,
}

impl<'w> Pulling<'w> {
    /// A pull is asked for.
    pub fn begin(world: &'w World, uri: &'w ImageUri) -> Pulling<'w> {
        world.with(|state| {
            if !state.pulling.insert(uri.clone()) {
                state.violation(format!("image '{uri}' is pulled twice at once"));
            }
            if state.pulling.len() > PULLS_MAX {
                let pulling = format!("{:?}", state.pulling);
                state.violation(format!("too much is pulled at once: {pulling}"));
            }
        });
        Pulling {
            world,
            uri,
            is_over: false,
        }
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        let uri = self.uri;
        self.world.with(|state| {
            state.pulling.remove(uri);
            if self.is_over || state.is_ending {
                return;
            }
            state.note(format!("pull '{uri}': given up"));
            let target = state.board.as_ref();
            let target = target.and_then(|board| board.look(|board| board.target.clone()));
            if target.is_some_and(|target| sweep::wanted(&target).contains(uri)) {
                state.violation(format!("the pull of '{uri}' is given up and it is wanted"));
            }
        });
    }
}
