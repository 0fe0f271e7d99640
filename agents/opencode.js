import { spawnSync } from "node:child_process"

const [program, ...words] = WORDS

export const Tamis = async ({ directory }) => ({
  "tool.execute.before": async (input, output) => {
    if (input.tool !== "bash") return
    const event = {
      hook_event_name: "tool.execute.before",
      tool_name: input.tool,
      tool_input: output.args,
      cwd: directory,
    }
    const done = spawnSync(program, words, {
      input: JSON.stringify(event),
      encoding: "utf8",
      timeout: TIMEOUT_MS,
    })
    if (done.status !== 0 || !done.stdout) return
    output.args.command = JSON.parse(done.stdout).command
  },
})
