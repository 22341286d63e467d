// npm install, then:
// node main.js CONTEXT ls
// node main.js CONTEXT call EXPORTER dut.power.cycle '{"wait": 2}'
// node main.js CONTEXT stream EXPORTER dut.power.read
// node main.js CONTEXT events [EXPORTER]
// CONTEXT is the file that `jsnats up` or `jsnats auth add` wrote. Output is one JSON value in a line.
"use strict";

const { CallError, Lab } = require("./lab.js");

const print = (value) => console.log(JSON.stringify(value));

const verbs = {
  async ls(lab) {
    for (const { exporter, methods } of await lab.exporters()) {
      for (const { path, method, kind } of methods) print({ exporter, method: path ? `${path}.${method}` : method, kind });
    }
  },
  async call(lab, exporter, method, args) {
    print(await lab.call(exporter, method, args && JSON.parse(args)));
  },
  async stream(lab, exporter, method, args) {
    for await (const item of lab.stream(exporter, method, args && JSON.parse(args))) print(item);
  },
  async events(lab, exporter) {
    for await (const event of lab.events(exporter)) print(event);
  },
};

const main = async ([file, verb, ...rest]) => {
  if (!(verb in verbs)) throw new Error("say: node main.js CONTEXT ls | call EXPORTER METHOD [ARGS] | stream EXPORTER METHOD [ARGS] | events [EXPORTER]");
  const lab = await Lab.connect(file);
  try {
    await verbs[verb](lab, ...rest);
  } finally {
    await lab.close();
  }
};

// `| head` has seen enough.
process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1));

main(process.argv.slice(2)).catch((error) => {
  console.error(error instanceof CallError ? `${error.type} (${error.code}): ${error.message}` : error.message);
  process.exitCode = 1;
});
