//! The report of an import, for people.

use crate::catalog::{BatchOutcome, ListensOutcome, Prunable, Pruned, RatingsOutcome};
use crate::cli::output::{Cell, Fields, Report, Table, count, counted, or_dash};
use crate::import::{ImportReport, Outcome, Reason};

/// What an import did to the rows of a table: how many it added, changed and found as they are.
type Line = (&'static str, u64, u64, Option<u64>);

/// Counts of an import as lines of its report.
trait Counts: Outcome {
    fn lines(&self) -> Vec<Line>;
}

impl Counts for BatchOutcome {
    fn lines(&self) -> Vec<Line> {
        vec![
            ("playlists", self.playlists_added, self.playlists_changed, Some(self.playlists_unchanged)),
            ("tracks", self.tracks_added, self.tracks_changed, None),
            ("artists", self.artists_added, self.artists_changed, None),
            ("albums", self.albums_added, self.albums_changed, None),
            ("users", self.users_added, 0, None),
        ]
    }
}

impl Counts for RatingsOutcome {
    fn lines(&self) -> Vec<Line> {
        vec![
            ("ratings", self.ratings_added, self.ratings_changed, Some(self.ratings_unchanged)),
            ("tracks", self.tracks_added, self.tracks_changed, None),
            ("artists", self.artists_added, self.artists_changed, None),
            ("users", self.users_added, 0, None),
        ]
    }
}

impl Counts for ListensOutcome {
    fn lines(&self) -> Vec<Line> {
        let unchanged = self.listens.saturating_sub(self.listens_added + self.listens_changed);
        vec![
            ("listens", self.listens_added, self.listens_changed, Some(unchanged)),
            ("tracks", self.tracks_added, self.tracks_changed, None),
            ("artists", self.artists_added, self.artists_changed, None),
            ("users", self.users_added, self.users_changed, None),
        ]
    }
}

fn add_reasons(fields: &mut Fields, reasons: &[Reason]) {
    for Reason { reason, count: times } in reasons {
        fields.add("", format!("{} × {reason}", count(*times)));
    }
}

impl<O: Counts> Report for ImportReport<O> {
    fn text(&self) -> String {
        let mut table = Table::new(["", "added", "changed", "unchanged"]);
        for (what, added, changed, unchanged) in self.outcome.lines() {
            table.row([Cell::from(what), count(added), count(changed), unchanged.map_or_else(|| or_dash(None), count)]);
        }
        let mut fields = Fields::default();
        fields.add("rows read", format!("{} in {}", count(self.rows), counted(self.files, "file")));
        fields.add("rejected", counted(self.rejected, "row"));
        add_reasons(&mut fields, &self.rejected_reasons);
        if self.omitted > 0 {
            fields.add("omitted", format!("{} of rows", counted(self.omitted, "part")));
            add_reasons(&mut fields, &self.omitted_reasons);
        }
        if let Some(rejects) = &self.rejects_file {
            fields.add("listed in", rejects.display());
            if self.unlisted > 0 {
                fields.add("", format!("the first 100 MB; {} more are not listed", count(self.unlisted)));
            }
        }
        for (kind, Pruned { removed, kept }) in &self.pruned {
            let singular = kind.table().trim_end_matches('s');
            fields.add("removed", format!("{} that the source does not have", counted(*removed, singular)));
            if *kept > 0 {
                let why = match kind {
                    Prunable::Ratings => "written since the import began",
                    Prunable::Playlists => "changed since the import began",
                    Prunable::Tracks => "in a playlist, rated, played, or changed since the import began",
                    Prunable::Users => "with a playlist, a rating or a listen, or changed since the import began",
                };
                fields.add("kept", format!("{} that it does not have either: {why}", counted(*kept, singular)));
            }
        }
        if let Some(hint) = &self.hint {
            fields.add("hint", hint);
        }
        fields.add("time", format!("{:.2} s ({})", self.seconds, self.outcome.progress(self.seconds)));
        for failed in &self.failed_files {
            fields.add("REJECTED", format!("{}: {}", failed.file.display(), failed.reason));
        }
        let end = match () {
            () if self.interrupted => "stopped before the end; the same command resumes the import\n",
            () if self.is_useless() => "no row could be imported\n",
            () => "",
        };
        format!("{table}\n{fields}{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted() {
        let rejects_file = Some("rejects".into());
        let report = ImportReport::<BatchOutcome> { rejects_file, unlisted: 1_234, ..ImportReport::default() };
        let text = report.text();
        assert!(text.contains("the first 100 MB; 1,234 more are not listed"), "{text}");
        assert!(!ImportReport::<BatchOutcome>::default().text().contains("not listed"));
    }
}
