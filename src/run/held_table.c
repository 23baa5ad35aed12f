/* What is known to leave. More in .slipway.yml (deploy.actions, deploy.commands). */
#include "run/held.h"

#define SSH "run commands or copy files over ssh"
#define WEB "publish a site"
#define APP "deploy"
#define PACKAGE "publish a package"
#define RELEASE "make or change a release"
#define CHAT "send a message"
#define COVERAGE "upload coverage"
#define REPO "write to the repository on the forge"
#define COMMENT "write a comment or a check"
#define CLOUD "change cloud resources"

const struct held_rule held_actions[] = {
    {"appleboy/ssh-action", SSH}, {"appleboy/scp-action", SSH}, {"easingthemes/ssh-deploy", SSH}, {"burnett01/rsync-deployments", SSH},
    {"contention/rsync-deployments", SSH}, {"up9cloud/action-rsync", SSH}, {"fifsky/ssh-action", SSH}, {"garygrossgarten/github-action-ssh", SSH},
    {"garygrossgarten/github-action-scp", SSH}, {"cross-the-world/*", SSH}, {"samkirkland/ftp-deploy-action", SSH}, {"wlixcc/sftp-deploy-action", SSH},
    {"actions/deploy-pages", WEB}, {"peaceiris/actions-gh-pages", WEB}, {"jamesives/github-pages-deploy-action", WEB},
    {"crazy-max/ghaction-github-pages", WEB}, {"nwtgck/actions-netlify", WEB}, {"netlify/actions*", WEB}, {"cloudflare/pages-action", WEB},
    {"cloudflare/wrangler-action", WEB}, {"amondnet/vercel-action", WEB}, {"firebaseextended/action-hosting-deploy", WEB},
    {"pypa/gh-action-pypi-publish", PACKAGE}, {"js-devtools/npm-publish", PACKAGE}, {"katyo/publish-crates", PACKAGE},
    {"rubygems/release-gem", PACKAGE}, {"helm/chart-releaser-action", PACKAGE}, {"etils-actions/pypi-auto-publish", PACKAGE},
    {"softprops/action-gh-release", RELEASE}, {"ncipollo/release-action", RELEASE}, {"actions/create-release", RELEASE},
    {"actions/upload-release-asset", RELEASE}, {"svenstaro/upload-release-action", RELEASE}, {"marvinpinto/action-automatic-releases", RELEASE},
    {"release-drafter/release-drafter", RELEASE}, {"googleapis/release-please-action", RELEASE}, {"google-github-actions/release-please-action", RELEASE},
    {"cycjimmy/semantic-release-action", RELEASE}, {"python-semantic-release/*", RELEASE}, {"relekang/python-semantic-release", RELEASE},
    {"goreleaser/goreleaser-action", RELEASE}, {"mathieudutour/github-tag-action", RELEASE}, {"anothrnick/github-tag-action", RELEASE},
    {"changesets/action", RELEASE}, {"getsentry/action-release", RELEASE}, {"actions/attest*", RELEASE}, {"sigstore/gh-action-sigstore-python", RELEASE},
    {"codecov/*", COVERAGE}, {"coverallsapp/github-action", COVERAGE}, {"codacy/*", COVERAGE}, {"paambaati/codeclimate-action", COVERAGE},
    {"qltysh/qlty-action/coverage", COVERAGE}, {"deepsourcelabs/test-coverage-action", COVERAGE}, {"sonarsource/*", "upload code and coverage"},
    {"github/codeql-action/analyze", "upload results"}, {"github/codeql-action/upload-sarif", "upload results"}, {"ossf/scorecard-action", "upload results"},
    {"slackapi/slack-github-action", CHAT}, {"8398a7/action-slack", CHAT}, {"rtcamp/action-slack-notify", CHAT}, {"act10ns/slack", CHAT},
    {"ravsamhq/notify-slack-action", CHAT}, {"voxmedia/github-action-slack-notify-build", CHAT}, {"ilshidur/action-discord", CHAT},
    {"ilshidur/action-slack", CHAT}, {"sarisia/actions-status-discord", CHAT}, {"appleboy/telegram-action", CHAT}, {"appleboy/discord-action", CHAT},
    {"tsickert/discord-webhook", CHAT}, {"dawidd6/action-send-mail", CHAT}, {"zulip/github-actions-zulip/*", CHAT}, {"fjogeleit/http-request-action", "call a web service"},
    {"distributhor/workflow-webhook", "call a web service"}, {"joelwmale/webhook-action", "call a web service"},
    {"aws-actions/amazon-ecs-deploy-task-definition", APP}, {"aws-actions/aws-cloudformation-github-deploy", APP}, {"aws-actions/aws-lambda-deploy", APP},
    {"jakejarvis/s3-sync-action", "upload to S3"}, {"einaregilsson/beanstalk-deploy", APP}, {"azure/webapps-deploy", APP}, {"azure/functions-action", APP},
    {"azure/k8s-deploy", APP}, {"azure/container-apps-deploy-action", APP}, {"azure/static-web-apps-deploy", APP}, {"azure/cli", CLOUD},
    {"google-github-actions/deploy-*", APP}, {"google-github-actions/upload-cloud-storage", "upload to a bucket"}, {"akhileshns/heroku-deploy", APP},
    {"superfly/flyctl-actions", APP}, {"digitalocean/app_action*", APP}, {"render-oss/*", APP}, {"johnbeynon/render-deploy-action", APP},
    {"dokku/github-action", APP}, {"caprover/deploy-from-github", APP}, {"pulumi/actions", CLOUD}, {"actions-hub/kubectl", CLOUD},
    {"steebchen/kubectl", CLOUD}, {"bobheadxi/deployments", REPO}, {"chrnorm/deployment-action", REPO}, {"chrnorm/deployment-status", REPO},
    {"peter-evans/create-pull-request", REPO}, {"peter-evans/repository-dispatch", REPO}, {"peter-evans/dockerhub-description", "change a page on Docker Hub"},
    {"stefanzweifel/git-auto-commit-action", REPO}, {"endbug/add-and-commit", REPO}, {"ad-m/github-push-action", REPO}, {"benc-uk/workflow-dispatch", REPO},
    {"convictional/trigger-workflow-and-wait", REPO}, {"actions/stale", REPO}, {"actions/labeler", REPO}, {"actions/first-interaction", REPO},
    {"pascalgn/automerge-action", REPO}, {"peter-evans/create-or-update-comment", COMMENT}, {"thollander/actions-comment-pull-request", COMMENT},
    {"marocchino/sticky-pull-request-comment", COMMENT}, {"dorny/test-reporter", COMMENT}, {"enricomi/publish-unit-test-result-action*", COMMENT},
    {"mikepenz/action-junit-report", COMMENT}, {"py-cov-action/python-coverage-comment-action", COMMENT}, {"mishakav/pytest-coverage-comment", COMMENT},
    {"orgoro/coverage", COMMENT}, {"5monkeys/cobertura-action", COMMENT},
    /* Bitbucket's pipes, as the images that they are. */
    {"*bitbucketpipelines/*-deploy", APP}, {"*bitbucketpipelines/*-notify", CHAT}, {"*bitbucketpipelines/*-publish", PACKAGE},
    {"*bitbucketpipelines/ssh-run", SSH}, {"*bitbucketpipelines/kubectl-run", CLOUD}, {"*bitbucketpipelines/*-upload*", "upload files"},
    {"*bitbucketpipelines/aws-*", CLOUD}, {"*bitbucketpipelines/azure-*", CLOUD}, {"*bitbucketpipelines/google-*", CLOUD},
    {NULL, NULL}};

const struct held_rule held_commands[] = {
    /* ssh, scp, sftp and rsync are decided by the program: hosts of the job itself are not out there */
    {"ssh", "always"}, {"scp", "always"}, {"sftp", "always"}, {"rsync", NULL},
    {"twine upload|register", "always"}, {"codecov", "always"}, {"codecovcli", "always"}, {"coveralls", "always"},
    {"npm publish|unpublish|deprecate|dist-tag|owner", NULL}, {"yarn publish", NULL}, {"yarn npm publish", NULL}, {"pnpm publish", NULL},
    {"poetry publish", NULL}, {"flit publish", NULL}, {"hatch publish", NULL}, {"uv publish", NULL}, {"pdm publish", NULL},
    {"python twine upload|register", "named"}, {"python3 twine upload|register", "named"}, {"semantic-release", NULL}, {"cargo publish", NULL}, {"gem push", NULL},
    {"gh release create|delete|delete-asset|upload|edit", NULL}, {"gh pr create|comment|merge|close|edit|review|ready|reopen", NULL},
    {"gh issue create|comment|close|edit|delete|reopen|transfer", NULL}, {"gh workflow run|enable|disable", NULL},
    {"gh run rerun|cancel|delete", NULL}, {"gh repo create|delete|edit|fork|rename|sync|archive", NULL}, {"gh gist create|edit|delete", NULL},
    {"gh secret set|delete", NULL}, {"gh variable set|delete", NULL}, {"gh label create|edit|delete|clone", NULL}, {"gh cache delete", NULL},
    {"gh api", NULL}, /* decided by the program: its method */
    {"kubectl apply|create|delete|replace|patch|set|scale|rollout|label|annotate|exec", NULL},
    {"helm install|upgrade|uninstall|rollback|push", NULL}, {"terraform apply|destroy|import", NULL}, {"ansible-playbook", NULL},
    {"aws s3 cp|sync|mv|rm", NULL}, {"aws ecs update-service|run-task|register-task-definition", NULL}, {"aws lambda update-function-code", NULL},
    {"aws cloudformation deploy|create-stack|update-stack", NULL}, {"eb deploy", NULL}, {"gcloud app|run|functions deploy", NULL},
    {"gsutil cp|rsync|mv|rm", NULL}, {"az webapp|functionapp|containerapp deploy|up|update", NULL}, {"heroku", NULL},
    {"flyctl deploy", NULL}, {"fly deploy", NULL}, {"vercel", NULL}, {"netlify deploy", NULL}, {"wrangler deploy|publish", NULL},
    {"firebase deploy", NULL}, {"serverless deploy", NULL}, {"sls deploy", NULL}, {"sentry-cli releases|deploys", NULL},
    {NULL, NULL}};
