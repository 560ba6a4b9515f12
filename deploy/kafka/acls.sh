#!/usr/bin/env bash
# Gives every principal what it needs of Kafka, and nothing else; docs/threats.md says why.
#
#   BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties deploy/kafka/acls.sh
#
# The broker needs an authorizer that denies what no rule allows (authorizer.class.name=...StandardAuthorizer,
# allow.everyone.if.no.acl.found=false). A principal is the name that Kafka knows a client by: of SASL the user name, of
# TLS the subject of its certificate. Topics are to be created before (`qethics topics create`, as a principal that may),
# so that no process needs the right to.
set -euo pipefail

: "${BOOTSTRAP:?host:port of a broker}"
KAFKA_ACLS=${KAFKA_ACLS:-kafka-acls.sh}
PREFIX=${PREFIX-qethics.}
GROUP=${GROUP:-qethics}
# Several principals of one kind are separated by semicolons, as in Kafka's `super.users`; a kind that is empty gets nothing.
WORKERS=${WORKERS-User:qethics-worker}
GATES=${GATES-User:qethics-gate}
PAGERS=${PAGERS-User:qethics-pager}
OPERATORS=${OPERATORS-User:qethics-operator}
# Who sends job events and results; who routes runs; who reads what there is to be shown.
PRODUCERS=${PRODUCERS-User:qethics-producer}
SCHEDULERS=${SCHEDULERS-User:qethics-scheduler}
AUDITORS=${AUDITORS-User:qethics-auditor}

may() { # may PRINCIPALS OPERATION TOPICS [GROUP]
  local principals topics each rule=()
  IFS=';' read -ra principals <<< "$1"
  read -ra topics <<< "$3"
  for each in "${principals[@]}"; do [ -z "$each" ] || rule+=(--allow-principal "$each"); done
  [ "${#rule[@]}" -gt 0 ] || return 0
  for each in "${topics[@]}"; do rule+=(--topic "$PREFIX$each"); done
  "$KAFKA_ACLS" --bootstrap-server "$BOOTSTRAP" ${COMMAND_CONFIG:+--command-config "$COMMAND_CONFIG"} \
    --add --operation "$2" --operation Describe "${rule[@]}" ${4:+--group "$4"} > /dev/null
}

# Every process of ours checks at its start that the topics fit, and so does `qethics doctor`.
may "$WORKERS;$GATES;$PAGERS;$OPERATORS" DescribeConfigs "jobs results samples checkpoints violations decisions \
  admissions admission-requests admission-replies evidence alerts directives incidents replay-requests dead-letter"

# Control records stand among the events, so a worker writes to what it reads.
may "$WORKERS" Read "jobs results admissions samples checkpoints" "$GROUP"
may "$WORKERS" Write "jobs results admissions samples checkpoints violations decisions evidence alerts directives \
  replay-requests dead-letter"

may "$GATES" Read "directives admission-requests" "$GROUP-admission"
may "$GATES" Write "admissions admission-replies dead-letter"

may "$PAGERS" Read "alerts incidents directives jobs results violations decisions evidence replay-requests"
may "$PAGERS" Write "incidents"

# `qethics rebaseline`, and directives given by hand.
may "$OPERATORS" Write "samples directives"

may "$PRODUCERS" Write "jobs results"

may "$SCHEDULERS" Write "admission-requests jobs"
may "$SCHEDULERS" Read "admission-replies directives replay-requests" "$GROUP-scheduler"

may "$AUDITORS" Read "violations decisions admissions evidence alerts incidents directives replay-requests dead-letter" \
  "$GROUP-audit"

echo "rules are set for $WORKERS $GATES $PAGERS $OPERATORS $PRODUCERS $SCHEDULERS $AUDITORS"
