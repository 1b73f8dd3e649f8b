"""The same app in six frameworks: every route is reached by HTTP and by socket."""
