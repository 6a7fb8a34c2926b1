// The settings database of a stand-in for the legacy supervisor, made where it is missing, as the real one's
// (remote-api 8.1, local-api 3.1). Prints what the supervisor reads when it starts, as one JSON object: what is in
// $LEGACY_SETTINGS, and over that what is in the database. Run by the stand-in as its --settings-command.
const { Database } = require('sqlite3');
const { randomUUID } = require('crypto');

const fail = (error) => { console.error(error.message); process.exit(1); };
const then = (next) => (error, rows) => (error ? fail(error) : next(rows));
const db = new Database('/data/database.sqlite', (error) => error && fail(error));
db.configure('busyTimeout', 5000);
const key = randomUUID().replaceAll('-', '');
const global = JSON.stringify([{ type: 'global' }]);
db.serialize(() => {
  db.run('CREATE TABLE IF NOT EXISTS config (key TEXT PRIMARY KEY, value TEXT)', then(() => {}));
  db.run('CREATE TABLE IF NOT EXISTS apiSecret (id INTEGER PRIMARY KEY AUTOINCREMENT, appId INTEGER, serviceName TEXT, ' +
    'scopes TEXT, key TEXT NOT NULL, UNIQUE (appId, serviceName))', then(() => {}));
  db.run('INSERT INTO apiSecret (appId, serviceName, scopes, key) SELECT 0, NULL, ?, ? ' +
    'WHERE NOT EXISTS (SELECT 1 FROM apiSecret WHERE appId = 0 AND serviceName IS NULL)', [global, key], then(() => {}));
  db.all("SELECT key, value FROM config WHERE key IN ('apiEndpointOverride', 'listenPortOverride') UNION ALL " +
    "SELECT 'apiSecret', key FROM apiSecret WHERE appId = 0 AND serviceName IS NULL", then((rows) => {
    const found = Object.fromEntries(rows.map(({ key, value }) => [key, value]));
    console.log(JSON.stringify({ ...JSON.parse(process.env.LEGACY_SETTINGS ?? '{}'), ...found }));
  }));
});
