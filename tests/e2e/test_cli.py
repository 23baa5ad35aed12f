"""The command itself: help of every command, completion, exit codes, configuration."""
import re
import subprocess


def commands(root):
    return re.findall(r"^  ([a-z][a-z-]*) ", root("--help", check=0).stdout, re.M)


def test_every_command_has_help(root):
    names = commands(root)
    assert {"run", "build", "plan", "check", "logs", "doctor", "docker", "registry", "image", "prune"} <= set(names), names
    for name in names:
        r = root(name, "--help", check=0)
        assert re.match(rf"usage: slipway {name}\b" if name != "docker" else "Usage:  docker ", r.stdout), (name, r.stdout[:200])
        assert not r.stderr


def test_wrong_words_are_usage_errors(root):
    assert "no such command" in root("buld", check=2).stderr
    r = root("run", "--offlin", check=2)
    assert "did you mean --offline?" in r.stderr
    assert root("run", "-s", check=2).stderr.startswith("error: ")


def test_completion_scripts_are_valid(root, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        f = tmp_path / shell
        f.write_text(root("completion", shell, check=0).stdout)
        assert "slipway" in f.read_text()
    subprocess.run(["bash", "-n", tmp_path / "bash"], check=True)
    r = subprocess.run(["bash", "-c", f"source {tmp_path}/bash; slipway() {{ {root.binary} \"$@\"; }}; COMP_WORDS=(slipway ru); COMP_CWORD=1; _slipway; echo ${{COMPREPLY[*]}}"],
                       capture_output=True, text=True, check=True)
    assert "run" in r.stdout.split()


def test_configuration_errors_have_a_place(root, tmp_path):
    d = root.repo(tmp_path, {".slipway.yml": "parallel: many\nplatform: {}\n", ".github/workflows/ci.yml": "on: push\njobs: {j: {runs-on: x, steps: [{run: a}]}}\n"})
    r = root("run", "-l", cwd=d, check=2)
    assert re.search(r"\.slipway\.yml:1:\d+: error", r.stderr) and "unknown key: platform" in r.stderr


def test_a_repository_cannot_ask_for_the_host(root, tmp_path):
    d = root.repo(tmp_path, {".slipway.yml": "platforms: {mine: host}\nregistry: {allow-push: [docker.io]}\n",
                             ".github/workflows/ci.yml": "on: push\njobs: {j: {runs-on: mine, steps: [{run: echo here}]}}\n"})
    r = root("run", "--json", cwd=d, check=1)
    assert "left out" in r.stderr and '"unavailable"' in r.stdout and '"here' not in r.stdout


def test_files_of_values(root, tmp_path):
    d = root.repo(tmp_path, {
        ".vars": "# comment\nA=one\nexport B='two words'\nC=\"line 1\\nline 2\"\nD=x # comment\nE='multi\nline'\n",
        ".github/workflows/ci.yml": """
            on: push
            jobs:
              j:
                runs-on: mine
                steps:
                  - env: {A: "${{ vars.A }}", B: "${{ vars.B }}", C: "${{ vars.C }}", D: "${{ vars.D }}", E: "${{ vars.E }}"}
                    run: |
                      test "$A/$B/$D" = "one/two words/x"
                      test "$C" = "$(printf 'line 1\\nline 2')"
                      test "$E" = "$(printf 'multi\\nline')"
            """})
    root("run", "-P", "mine=host", cwd=d, check=0)
    (d / ".vars").write_text("no equals sign\n")
    assert ".vars:1" in root("run", "-P", "mine=host", cwd=d, check=2).stderr
