"""Nothing leaves by accident: what deploys, releases, notifies or uploads is held back and named."""
import pytest

from test_run import events, outcome, outputs, run

DEPLOY = r"""
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: echo tested
      - name: Coverage
        uses: codecov/codecov-action@v4
        with: {files: coverage.xml, token: "${{ secrets.CODECOV_TOKEN }}"}
      - run: echo after coverage
  deploy:
    runs-on: ubuntu-latest
    steps:
      - name: Restart
        run: |
          ssh -p 2222 deploy@app.example.org "systemctl restart app"
          scp ./file deploy@app.example.org:/srv/
          tar -c . | ssh app.example.org 'tar -x'
          rsync -az -e "ssh -p 22" --exclude=a:b ./ deploy@app.example.org:/srv/app
          echo "went on"
      - run: |
          python3 -m venv v; printf '#!/bin/sh\necho TWINE REALLY RAN\n' > twine; chmod +x twine; PATH=$PATH:$PWD
          twine check dist/*
          twine upload --repository pypi -u __token__ dist/*
          python -m twine upload dist/*
          gh release create v1.0 --notes "first"
      - run: npm publish --access public; npm --version
  last: {needs: deploy, runs-on: ubuntu-latest, steps: [{run: echo last}]}
  always: {needs: deploy, if: always(), runs-on: ubuntu-latest, steps: [{run: "test ${{ needs.deploy.result }} = skipped"}]}
"""


def held(r):
    return [(e["name"], e["detail"]) for e in events(r) if e["event"] == "held"]


def test_deploying_is_held_back_and_named(sl, place, runner):
    r = run(sl, place, DEPLOY, "-s", "CODECOV_TOKEN=tok-en-12345", check=4)
    assert outcome(r, "test") == outcome(r, "deploy") == outcome(r, "last") == "held" and outcome(r, "always") == "success"
    names = [n for n, _ in held(r)]
    assert sorted(names) == sorted([
        "codecov/codecov-action@v4", "ssh -p 2222 deploy@app.example.org systemctl restart app", "scp ./file deploy@app.example.org:/srv/",
        "ssh app.example.org tar -x", "rsync -az -e ssh -p 22 --exclude=a:b ./ deploy@app.example.org:/srv/app",
        "twine upload --repository pypi -u __token__ dist/*", "python -m twine upload dist/*", "gh release create v1.0 --notes first",
        "npm publish --access public"])
    what = dict(held(r))["codecov/codecov-action@v4"]
    assert what.startswith("would upload coverage") and "coverage.xml" in what and "tok-en" not in r.stdout
    text = outputs(r)
    assert "after coverage" in text and "went on" in text and text.count("TWINE REALLY RAN") == 1 and "last" not in text.split()


def test_what_stays_here_runs(root, tmp_path, runner):
    r = run(root, tmp_path, r"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: |
                  ssh -V
                  mkdir a; echo x > a/f; rsync -a a/ b/; test -f b/f
                  ! ssh -o BatchMode=yes -o StrictHostKeyChecking=no -p 1 localhost true
                  scp a/f c; test -f c
                  npm --version; twine --version || test $? = 127
                  git ls-remote ssh://git@localhost:1/x || test $? = 128
        """)
    assert outcome(r, "j") == "success" and not held(r)


def test_a_failure_is_a_failure(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: softprops/action-gh-release@v2
              - run: exit 1
        """, check=1)
    assert outcome(r, "j") == "failure"


def test_allowed_and_added(root, tmp_path, runner):
    wf = """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - {uses: acme/ship@v1}
              - run: |
                  mkdir bin; printf '#!/bin/sh\\necho FAB $1\\n' > bin/fab; chmod +x bin/fab; export PATH=$PATH:$PWD/bin
                  fab test; fab deploy
        """
    r = run(root, tmp_path, wf, check=4, files={".slipway.yml": "deploy:\n  actions: [acme/*]\n  commands: [fab deploy]\n  allow: ['*']\n"})
    assert [n for n, _ in held(r)] == ["acme/ship@v1", "fab deploy"]
    assert "FAB test" in outputs(r) and "FAB deploy" not in outputs(r)
    assert "deploy.allow is only taken from the user's own file" in r.stderr
    (tmp_path / ".github/workflows/ci.yml").write_text("""
on: push
jobs: {j: {runs-on: ubuntu-latest, steps: [{run: 'test "$(command -v ssh)" = /usr/bin/ssh; ssh -p 1 -o BatchMode=yes nowhere.invalid || test $? = 255'}]}}
""")
    r = root("run", "--json", "--allow-deploy", cwd=tmp_path, check=0)
    assert not held(r)


def test_the_summary_names_it(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": "on: push\njobs: {j: {runs-on: ubuntu-latest, steps: [{name: Ship, run: 'twine upload dist/*'}]}}\n"})
    r = root("run", cwd=d, check=4)
    tail = r.stdout[r.stdout.index("\njob "):]
    assert "held back (--allow-deploy lets it go)" in tail and "j › Ship: twine upload dist/*" in tail


def test_a_real_token_is_given_on_purpose(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps: [{run: 'test "${{ github.token }}${{ secrets.GITHUB_TOKEN }}" = "$WANT$WANT"; echo "${{ github.token }}"'}]
        """})
    r = root("run", "--json", "--github-token", "ghp_realrealreal", "--env", "WANT=ghp_realrealreal", cwd=d, check=0)
    assert "realreal" not in r.stdout
