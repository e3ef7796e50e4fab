//! The text in which Prometheus is told (its exposition format 0.0.4).

use std::fmt::{Display, Write as _};

use super::measure::{Bounds, Histogram};

/// What is told, as it grows.
#[derive(Default)]
pub(crate) struct Text(String);

/// The labels of a sample.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// A number that only grows.
    pub(crate) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
    ) {
        self.family(name, "counter", help);
        samples.into_iter().for_each(|(labels, value)| self.sample(name, &labels, value));
    }

    /// Seconds that only grow; nothing where they are not known.
    pub(crate) fn seconds(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, "counter", help);
        value.into_iter().for_each(|value| self.sample(name, &[], value));
    }

    /// A number that grows and shrinks; nothing where it is not known.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        self.gauges(name, help, value.map(|value| (Vec::new(), value)));
    }

    /// Several of one name.
    pub(crate) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, impl Display)>,
    ) {
        self.family(name, "gauge", help);
        samples.into_iter().for_each(|(labels, value)| self.sample(name, &labels, value));
    }

    /// How much of what was observed is how large.
    pub(crate) fn histograms<'a, B: Bounds + 'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, &'a Histogram<B>)>,
    ) {
        self.family(name, "histogram", help);
        for (labels, histogram) in samples {
            let mut count = 0;
            for (bound, below) in histogram.rising() {
                let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
                let mut labels = labels.clone();
                labels.push(("le", &bound));
                self.sample(&format!("{name}_bucket"), &labels, below);
                count = below;
            }
            self.sample(&format!("{name}_sum"), &labels, histogram.shown_sum());
            self.sample(&format!("{name}_count"), &labels, count);
        }
    }

    /// All that was told.
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (nth, (label, is)) in labels.iter().enumerate() {
            let is = is.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{is}\"", if nth == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}
