//! Progress bars for what takes long; only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::console::Console;

/// A bar on standard error, or nothing at all.
pub(crate) struct Progress {
    bar: ProgressBar,
    phase: &'static str,
}

impl Progress {
    /// Hidden unless standard error is a terminal and text is wanted.
    pub(crate) fn new(console: &Console) -> Self {
        let visible = console.error_terminal && !console.json;
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target), phase: "" }
    }

    /// Shows how far a phase is; `total` 0 means that it is not known.
    pub(crate) fn show(&mut self, phase: &'static str, done: u64, total: u64, in_bytes: bool) {
        if phase != self.phase {
            self.phase = phase;
            self.bar.set_style(style(total > 0, in_bytes));
            self.bar.set_message(phase);
            self.bar.reset();
        }
        if total > 0 {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(bounded: bool, in_bytes: bool) -> ProgressStyle {
    let template = match (bounded, in_bytes) {
        (true, true) => "  {msg:<24} {bar:30} {bytes:>10} of {total_bytes}  {bytes_per_sec}  {eta}",
        (true, false) => "  {msg:<24} {bar:30} {human_pos:>10} of {human_len}  {eta}",
        (false, true) => "  {msg:<24} {spinner} {bytes}",
        (false, false) => "  {msg:<24} {spinner} {human_pos}",
    };
    // The templates above are constant; a default bar is the harmless answer to a mistake in one.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌")
}

#[cfg(test)]
mod tests {
    #[test]
    fn templates_are_valid() {
        for bounded in [false, true] {
            for in_bytes in [false, true] {
                let _ = super::style(bounded, in_bytes);
            }
        }
        let progress = indicatif::ProgressStyle::with_template("{msg:<24} {bar:30} {bytes:>10} {human_pos:>10}");
        assert!(progress.is_ok());
    }
}
