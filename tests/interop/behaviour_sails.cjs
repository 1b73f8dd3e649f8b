// A real Sails app with the events of the client's behaviour table, and routes of each kind.
// Usage: node behaviour_sails.cjs PORT

const { constructor: Sails } = require("sails");

const app = new Sails();
const routes = {
  "GET /hello": (req, res) => res.send("hello"),
  "GET /value": (req, res) => res.json({ query: req.query, token: req.get("x-token") ?? null }),
  "GET /nothing": (req, res) => res.status(204).end(),
  "GET /missing": (req, res) => res.notFound({ code: "E_MISSING" }),
  "GET /bytes": (req, res) => res.send(Buffer.from([0, 1, 255])),
  "GET /never": () => {},
  "HEAD /hello": (req, res) => res.ok(),
};
for (const verb of ["POST", "PUT", "PATCH", "DELETE"]) {
  routes[`${verb} /mirror`] = (req, res) => res.status(verb === "POST" ? 201 : 200).json({ method: req.method, body: req.body });
}

app.lift(
  {
    appPath: __dirname,
    port: Number(process.argv[2]),
    explicitHost: "127.0.0.1",
    environment: "test",
    log: { level: "warn" },
    hooks: { grunt: false, sockets: require("sails-hook-sockets") },
    session: { secret: "behaviour" },
    security: { csrf: false },
    sockets: { transports: ["polling", "websocket"], pingInterval: 1000, pingTimeout: 10_000 },
    routes,
    // Before it listens, so that nobody connects to an app without the events.
    bootstrap: async () => {
      const { serveBehaviour } = await import("./behaviour.mjs");
      serveBehaviour(app.io);
    },
  },
  (error) => {
    if (error) throw error;
  },
);
