# Sourced first by every script: `--help` prints the comment that opens the script.

case " ${1-} " in
*" --help "* | *" -h "*)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
