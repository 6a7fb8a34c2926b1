//! `seeds DIR`: writes the seeds there, each cut in two ways.

#[path = "seeds.rs"]
mod seeds;

fn main() -> std::io::Result<()> {
    let dir = std::path::PathBuf::from(std::env::args_os().nth(1).unwrap_or_default());
    std::fs::create_dir_all(&dir)?;
    for (at, seed) in seeds::SEEDS.iter().enumerate() {
        for first in [0, 6] {
            std::fs::write(
                dir.join(format!("{at}-{first}")),
                [&[first], *seed].concat(),
            )?;
        }
    }
    Ok(())
}
