# shellcheck shell=bash
# Sourced by the launchers, after env.sh: reads options of the form --name=value.
#
#     OPTIONS="processes devices"        the options that there are, beside --dry_run
#     processes=2; devices=1             their defaults
#     read_options "$@"                  sets them, and the array REST of what stands behind --
#     run_or_show COMMAND ARGS           runs it, or with --dry_run prints it as one line of a shell

DRY_RUN=""
REST=()

read_options() {
  # No option may have one of these names, which hide it.
  local option_ known_ each_
  while [ $# -gt 0 ]; do
    case "$1" in
      --)
        shift
        REST=("$@")
        break
        ;;
      --help | -h)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      --dry_run) DRY_RUN=yes ;;
      --*=*)
        option_="${1%%=*}"
        option_="${option_#--}"
        known_=""
        for each_ in $OPTIONS; do
          [ "$each_" != "$option_" ] || known_=yes
        done
        [ -n "$known_" ] || fail "unknown option --$option_. There are: --${OPTIONS// / --} --dry_run;" \
          "the command's own flags stand behind --"
        printf -v "$option_" '%s' "${1#*=}"
        ;;
      *) fail "unexpected argument '$1': options are written --name=value, the command's own flags behind --" ;;
    esac
    shift
  done
}

# Refuses an option that is no whole number from 1.
need_number() {
  local value="${!1}"
  case "$value" in
    '' | *[!0-9]* | 0*) fail "--$1=$value: expected a whole number from 1" ;;
  esac
}

need() {
  [ -n "${!1}" ] || fail "--$1 is missing; give it, for example --$1=$2"
}

# Refuses to go on without the flags of the command that is to be run.
need_rest() {
  [ "${#REST[@]}" -gt 0 ] || fail "the command's flags are missing: give them behind --"
}

quoted() {
  local each
  for each in "$@"; do
    case "$each" in
      *[!A-Za-z0-9_./:=@%+,-]* | '') printf "'%s' " "${each//\'/\'\\\'\'}" ;;
      *) printf '%s ' "$each" ;;
    esac
  done
}

run_or_show() {
  if [ -n "$DRY_RUN" ]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# Whether a command that ended so is worth another start: not one that is done (0) or was wrong (2).
starts_again() {
  [ "$1" -ne 0 ] && [ "$1" -ne 2 ]
}
