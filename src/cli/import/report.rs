//! The report of an import, for people.

use crate::catalog::{BatchOutcome, ListensOutcome, RatingsOutcome};
use crate::cli::output::{Fields, Report, count};
use crate::import::{ImportReport, Outcome};

/// Counts of an import as lines of its report.
trait Counts: Outcome {
    fn add_to(&self, fields: &mut Fields);
}

/// Adds how many rows of each kind changed, if any did.
fn add_changes<const N: usize>(fields: &mut Fields, changes: [(&str, u64); N]) {
    for (kind, changed) in changes {
        if changed > 0 {
            fields.add(format!("changed {kind}"), count(changed));
        }
    }
}

impl Counts for BatchOutcome {
    fn add_to(&self, fields: &mut Fields) {
        let playlists = self.playlists_added + self.playlists_changed + self.playlists_unchanged;
        let (added, changed) = (count(self.playlists_added), count(self.playlists_changed));
        let unchanged = count(self.playlists_unchanged);
        fields
            .add("playlists", format!("{} ({added} new, {changed} changed, {unchanged} unchanged)", count(playlists)));
        fields.add("placements", count(self.placements));
        fields.add("new tracks", count(self.tracks_added));
        add_changes(fields, [("tracks", self.tracks_changed)]);
        fields.add("new artists", count(self.artists_added));
        fields.add("new albums", count(self.albums_added));
        add_changes(fields, [("artists", self.artists_changed), ("albums", self.albums_changed)]);
        if self.users_added > 0 {
            fields.add("new users", count(self.users_added));
        }
    }
}

impl Counts for RatingsOutcome {
    fn add_to(&self, fields: &mut Fields) {
        let (added, changed) = (count(self.ratings_added), count(self.ratings_changed));
        let unchanged = count(self.ratings_unchanged);
        fields
            .add("ratings", format!("{} ({added} new, {changed} changed, {unchanged} unchanged)", count(self.ratings)));
        fields.add("new tracks", count(self.tracks_added));
        add_changes(fields, [("tracks", self.tracks_changed), ("artists", self.artists_changed)]);
        fields.add("new users", count(self.users_added));
    }
}

impl Counts for ListensOutcome {
    fn add_to(&self, fields: &mut Fields) {
        let (added, changed) = (count(self.listens_added), count(self.listens_changed));
        fields.add("listens", format!("{} ({added} new, {changed} changed)", count(self.listens)));
        fields.add("new tracks", count(self.tracks_added));
        add_changes(fields, [("tracks", self.tracks_changed), ("artists", self.artists_changed)]);
        fields.add("new users", count(self.users_added));
        fields.add("changed users", count(self.users_changed));
    }
}

impl<O: Counts> Report for ImportReport<O> {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("files", count(self.files));
        self.outcome.add_to(&mut fields);
        fields.add("time", format!("{:.2} s ({})", self.seconds, self.outcome.progress(self.seconds)));
        if let Some(rejects) = &self.rejects_file {
            fields.add("skipped", format!("{} rows, listed in {}", count(self.rejected), rejects.display()));
        }
        for failed in &self.failed_files {
            fields.add("REJECTED", format!("{}: {}", failed.file.display(), failed.reason));
        }
        let end = if self.interrupted { "stopped before the end; the same command resumes the import\n" } else { "" };
        format!("{fields}{end}")
    }
}
