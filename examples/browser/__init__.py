"""One small app and three pages that share it: plain HTML, React and Vue, without a build step."""
