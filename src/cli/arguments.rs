//! Arguments that several commands take.

/// Threads that compute.
#[derive(Debug, Clone, clap::Args)]
pub struct Threads {
    /// Number of threads; 0: one per processor
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub threads: u16,
}

impl Threads {
    /// The number of threads; 0 stands for one for each processor.
    pub(super) fn get(&self) -> usize {
        self.get_or(all_processors())
    }

    /// The number of threads; 0 stands for `default`.
    pub(super) fn get_or(&self, default: usize) -> usize {
        match self.threads {
            0 => default,
            threads => threads.into(),
        }
    }
}

/// A thread for each processor.
pub(super) fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Checks a share of the data that is set aside.
pub(super) fn check_share(flag: &str, share: f64) -> anyhow::Result<()> {
    anyhow::ensure!((0.01..=0.9).contains(&share), "--{flag} must be from 0.01 to 0.9");
    Ok(())
}
