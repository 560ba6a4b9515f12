// Reads TraceQL queries, one a line, and prints those that Grafana's own grammar does not take, with where they break.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-traceql";

for (const query of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  parser.parse(query).iterate({
    enter(node) {
      if (node.type.isError) console.log(`${node.from}: ${query}`);
    },
  });
}
